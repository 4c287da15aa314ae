"""The behaviours of `test_model_modes.py` through gateway, streams and workers, against each mode of the simulator.

Real processes, shared by the whole module: one Redis, one worker of each kind, and a gateway before each simulator.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis

from support.callers import fetch
from support.cluster import ClusterUnderTest, running_cluster
from support.key_leaks import keys_without_end, remove_keys
from support.modes_desk import desk
from support.simulator import MODES
from support.stages import Conversation, through_gateway
from support.waiting import wait_until
from voicebus_services.model_simulator import tape

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("model-modes")]

SECOND = bytes(48_000)  # of silence, 24 kHz PCM
FRAME = 4800  # bytes: 100 ms


@dataclass(frozen=True, slots=True)
class Mode:
    """Addresses of one simulator, and of the gateway before it."""

    gateway: str
    simulator: str

    async def lines(self) -> list[dict[str, Any]]:
        """What the simulated model knows of the conversation that began last."""
        ledger: list[dict[str, Any]] = (await fetch(f"{self.simulator}/ledger"))["data"]
        lines: list[dict[str, Any]] = ledger[-1]["lines"]
        return lines


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def modes(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, Mode]]:
    prefix = f"t{secrets.token_hex(5)}"
    folder: Path = tmp_path_factory.mktemp("cluster")
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{folder / 'voicebus.db'}",
        stream_prefix=prefix,
        targets=("support.modes_desk",),
        gateways=0,
        archivers=0,
        simulator=("--ledger",),
    ) as cluster:
        started = await asyncio.gather(*(_started(cluster, settings) for settings in MODES.values()))
        yield dict(zip(MODES, started, strict=True))
    with redis.Redis.from_url(redis_url) as client:
        lasting = keys_without_end(client, prefix)
        remove_keys(client, prefix)
    assert not lasting, f"keys without TTL or trim rule: {lasting}"


async def _started(cluster: ClusterUnderTest, settings: Mapping[str, Any]) -> Mode:
    given = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in settings.items()}
    simulator = await cluster.start("model-simulator", "--ledger", **given)
    model = f"ws://127.0.0.1:{simulator.http_port}/v1/realtime"
    gateway = await cluster.start("gateway", model_url=model)
    return Mode(gateway.url, simulator.url)


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest, modes: Mapping[str, Mode]) -> Mode:
    found: Mode = modes[request.param]
    return found


def texts(talk: Conversation) -> list[tuple[str, str]]:
    """Who said what, as the history was told of last; of calls their names and outputs."""
    items: list[dict[str, Any]] = []
    for event in talk.events:
        if event["type"] == "history_updated":
            items = list(event["history"])
        elif event["type"] == "history_added":
            items.append(event["item"])
    found = []
    for item in items:
        if item["type"] == "function_call":
            found.append((item["name"], item["output"] or ""))
        else:
            said = [part.get("text") or part.get("transcript") or "" for part in item["content"]]
            found.append((item["role"], " ".join(said)))
    return found


async def holds(talk: Conversation, *expected: tuple[str, str]) -> None:
    """Wait until the conversation is just this: its last frames may come behind the end of a turn."""
    try:
        await wait_until(lambda: texts(talk) == list(expected), description="the conversation")
    except AssertionError:
        assert texts(talk) == list(expected)


def most_responses_at_once(raw: list[Mapping[str, Any]]) -> int:
    active: set[str] = set()
    most = 0
    for event in raw:
        if event["type"] == "response.created":
            active.add(event["response"]["id"])
        elif event["type"] == "response.done":
            active.discard(event["response"]["id"])
        most = max(most, len(active))
    return most


@asynccontextmanager
async def talking(mode: Mode, agent: str = "front") -> AsyncIterator[Conversation]:
    """A conversation; in the end it has had no error, no two responses at once, and its records are in order."""
    async with through_gateway(mode.gateway, agent, raw="1") as talk:
        yield talk
    assert not talk.of("error")
    raw = [event["event"] for event in talk.of("raw_model_event")]
    refused = [event["error"]["code"] for event in raw if event["type"] == "error"]
    assert [code for code in refused if code != "response_cancel_not_active"] == []
    assert most_responses_at_once(raw) == 1
    numbers = [record["seq"] for record in talk.records]
    assert numbers == sorted(set(numbers))


async def test_a_written_turn_is_answered(mode: Mode) -> None:
    async with talking(mode) as talk:
        await talk.say("[[say: One.]]")
        await talk.until("agent_end", output="One.")
        await talk.say("[[say: Two.]]")
        await talk.until("agent_end", output="Two.")
        await holds(
            talk, ("user", "[[say: One.]]"), ("assistant", "One."), ("user", "[[say: Two.]]"), ("assistant", "Two.")
        )


async def test_a_spoken_turn_is_answered_and_written_down_in_its_place(mode: Mode) -> None:
    async with talking(mode) as talk:
        sound = bytes(9600) + tape.record("hi [[say: Good day.]]") + SECOND
        for start in range(0, len(sound), FRAME):
            await talk.send_audio(sound[start : start + FRAME])
        await talk.until("agent_end", output="Good day.")
        await holds(talk, ("user", "hi [[say: Good day.]]"), ("assistant", "Good day."))


async def test_a_tool_is_called_in_a_worker_and_its_result_said(mode: Mode) -> None:
    asked = '[[call: rate {"city": "Rome"}]] [[next]] [[say: {outputs}]]'
    async with talking(mode) as talk:
        await talk.say(asked)
        await talk.until("agent_end", output="100 in Rome")
        assert [(event["output"], event["outcome"]) for event in talk.of("tool_end")] == [("100 in Rome", "ok")]
        await holds(talk, ("user", asked), ("rate", "100 in Rome"), ("assistant", "100 in Rome"))


async def test_two_tools_of_one_response_are_answered_together(mode: Mode) -> None:
    both = '[[call: rate {"city": "Rome"}]] [[call: weather {"city": "Rome"}]] [[next]] [[say: {outputs}]]'
    async with talking(mode) as talk:
        await talk.say(both)
        await wait_until(lambda: any(end["output"] for end in talk.of("agent_end")), description="the answer")
        (said,) = [end["output"] for end in talk.of("agent_end") if end["output"]]
        assert sorted(said.split("; ")) == ["100 in Rome", "sunny in Rome"]
        await holds(talk, ("user", both), ("rate", "100 in Rome"), ("weather", "sunny in Rome"), ("assistant", said))
    assert [line["speaker"] for line in await mode.lines()] == ["user", "call", "call", "tool", "tool", "agent"]


async def test_another_agent_takes_over(mode: Mode) -> None:
    async with talking(mode) as talk:
        await talk.say("[[call: transfer_to_desk {}]] [[next]] [[say: Desk.]]")
        assert (await talk.until("agent_end", output="Desk."))["agent"] == "desk"
        await talk.say('[[call: weather {"city": "Oslo"}]] [[next]] [[say: {outputs}]]')
        assert (await talk.until("agent_end", output="sunny in Oslo"))["agent"] == "desk"
        assert [(event["from_agent"], event["to_agent"]) for event in talk.of("handoff")] == [("front", "desk")]


async def test_what_must_not_be_said_is_stopped(mode: Mode) -> None:
    async with talking(mode, "discreet") as talk:
        await talk.say("[[say: The secret is out now.]]")
        assert "secret" in (await talk.until("guardrail_tripped"))["message"]
        await wait_until(
            lambda: any(end["output"].startswith("You said:") for end in talk.of("agent_end")),
            description="the answer to the guardrail",
        )
        await talk.say("[[say: Hi.]]")
        await talk.until("agent_end", output="Hi.")
        assert len(talk.of("guardrail_tripped")) == 1


async def test_a_call_waits_for_its_approval(mode: Mode) -> None:
    request = '[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]'
    async with talking(mode) as talk:
        await talk.say(request)
        asked = await talk.until("tool_approval_required")
        assert not talk.of("tool_end")
        await talk.approve(asked["call_id"])
        await talk.until("agent_end", output="refunded 5")
        await holds(talk, ("user", request), ("refund", "refunded 5"), ("assistant", "refunded 5"))


async def test_an_interrupted_answer_is_cut_where_it_was_heard_and_the_next_one_comes(mode: Mode) -> None:
    async with talking(mode) as talk:
        await talk.say("[[say: Let me tell you all about it.]]")
        audio = await talk.until("audio")
        await talk.played(audio["item_id"], 50)
        await talk.interrupt()
        await talk.until("audio_interrupted", item_id=audio["item_id"])
        await talk.say("[[say: Yes?]]")
        await talk.until("agent_end", output="Yes?")
    agent = [line for line in await mode.lines() if line["speaker"] == "agent"]
    assert [line.get("truncated_ms") for line in agent] == [50, None]
    assert agent[1]["text"] == "Yes?"


async def test_the_program_puts_another_agent_in_charge(mode: Mode) -> None:
    async with talking(mode) as talk:
        await talk.update_agent(desk)
        await talk.say('[[call: weather {"city": "Oslo"}]] [[next]] [[say: {outputs}]]')
        assert (await talk.until("agent_end", output="sunny in Oslo"))["agent"] == "desk"
        assert not talk.of("handoff")
