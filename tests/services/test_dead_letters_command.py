"""`voicebus dead-letters`, against real letters."""

import json
from typing import Any

import pytest
import redis

from support.commands import voicebus
from voicebus.contracts.streams import Keys
from voicebus_services.cli import main


class Operator:
    """Writes letters, and runs the command in this process."""

    def __init__(self, url: str, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.keys = Keys(prefix)
        self._where = ("--redis-url", url, "--stream-prefix", prefix)
        self._capsys = capsys

    def letter(self, call_id: str = "c1", *, queue: str = "default", reason: str = "too_many_deliveries") -> str:
        data = json.dumps({"call_id": call_id, "tool": "pay", "idempotent": call_id.startswith("i")})
        stream = self.keys.tools(queue)
        entry = self.redis.xadd(
            self.keys.dead(queue),
            {
                "v": "1", "id": "m", "type": "tool.call", "session": "s1", "epoch": "1", "at": "1", "deadline": "2",
                "data": data, "reason": reason, "error": "a\nb", "deliveries": "6", "origin": f"{stream}/1-0",
                "history": '[{"worker": "w1", "at": 1000}]',
            },
        )  # fmt: skip
        return f"{queue}/{entry}"

    def run(self, *arguments: str) -> tuple[int, list[str], str]:
        with pytest.raises(SystemExit) as ended:
            main(["dead-letters", *arguments, *self._where])
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out.splitlines(), captured.err


@pytest.fixture
def operator(redis_url: str, stream_prefix: str, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(redis_url, stream_prefix, capsys)


def test_letters_are_listed_by_queue_and_reason(operator: Operator) -> None:
    assert operator.run("list") == (0, [], "voicebus: no dead letters\n")
    first, second = operator.letter(), operator.letter("c2", queue="other", reason="expired")
    status, lines, _ = operator.run("list")
    assert (status, [line.split()[0] for line in lines]) == (0, [first, second])
    assert "too_many_deliveries  x6  tool.call pay s1 c1  a b" in lines[0]
    assert operator.run()[1] == lines
    assert len(operator.run("--queue", "other")[1]) == 1
    assert len(operator.run("list", "--queue", "other")[1]) == 1
    assert len(operator.run("list", "--reason", "expired")[1]) == 1
    status, lines, told = operator.run("list", "--limit", "1")
    assert (len(lines), "more than 1; --limit shows more" in told) == (1, True)
    shown = [json.loads(line) for line in operator.run("list", "--json")[1]]
    assert [(one["id"], one["tool"], one["deliveries"]) for one in shown] == [(first, "pay", 6), (second, "pay", 6)]
    assert shown[0]["history"] == [{"worker": "w1", "at": 1000}]


def test_one_letter_is_shown_whole(operator: Operator) -> None:
    letter = operator.letter()
    status, lines, _ = operator.run("show", letter)
    assert status == 0
    assert "started: 1970-01-01T00:00:01.000Z by w1" in lines
    assert any(line.startswith("  data: ") for line in lines)
    (line,) = operator.run("show", letter, "--json")[1]
    assert json.loads(line)["entry"]["session"] == "s1"
    status, _, told = operator.run("show", "default/1-0")
    assert (status, told) == (1, "voicebus: there is no dead letter default/1-0\n")
    assert operator.run("show", "nonsense")[0] == 2


def test_letters_are_replayed_and_those_that_might_take_effect_twice_are_left(operator: Operator) -> None:
    once, again = operator.letter("c1"), operator.letter("i2")
    status, lines, told = operator.run("replay", "--all", "--json", "--deadline", "90s")
    assert status == 1
    assert [json.loads(line)["id"] for line in lines] == [again]
    assert told.startswith(f"voicebus: {once} is not replayed: call c1 may have been started")
    status, lines, _ = operator.run("replay", once, "--force")
    ((_, second), (entry, fields)) = operator.redis.xrange(operator.keys.tools("default"))
    assert (status, lines) == (0, [f"replayed {once} as {entry}"])
    assert int(second["deadline"]) > int(fields["deadline"])
    assert operator.run("replay", once)[0] == 1


def test_letters_are_dropped(operator: Operator) -> None:
    first, second = operator.letter(), operator.letter("c2", reason="expired")
    assert operator.run("drop", first) == (0, [f"dropped {first}"], "")
    assert operator.run("drop", first)[0] == 1
    assert operator.run("drop", "--all", "--reason", "expired")[1] == [f"dropped {second}"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["replay"], "name the dead letters, or say --all"),
        (["drop", "default/1-0", "--all"], "not both"),
        (["drop", "default/1-0", "--queue", "default"], "go with no ids"),
        (["replay", "--all", "--deadline", "soon"], "--deadline: 'soon' was read"),
        (["replay", "--all", "--deadline", "0"], "a duration above 0 is allowed"),
        (["list", "--limit", "0"], "--limit"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_a_status(operator: Operator, arguments: list[str], why: str) -> None:
    status, lines, told = operator.run(*arguments)
    assert (status, lines) == (2, [])
    assert why in told


async def test_it_is_a_command_with_help_and_says_where_redis_is_not() -> None:
    ran = await voicebus("dead-letters", "--help")
    assert ran.status == 0
    assert all(name in ran.out for name in ("list", "show", "replay", "drop"))
    ran = await voicebus("dead-letters", "list", redis_url="redis://127.0.0.1:1/0")
    assert (ran.status, "cannot be reached" in ran.complaint) == (1, True)
