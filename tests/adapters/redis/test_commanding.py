"""Commands to sessions on a real Redis: to the owner's inbox, and the answer back to the asker's."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.commands import SESSION_ANSWER, SESSION_COMMAND, SessionAnswer, SessionCommand
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.errors import CommandRefusedError, ContractError
from voicebus.ports import SessionRef


class Side:
    """One gateway's end: its commands, its inbox, its outbox."""

    def __init__(self, name: str, bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
        self.outbox = Outbox(bus, clock, service="gateway")
        self.commands = RedisCommands(bus, self.outbox, clock, keys, name)
        self.inbox = RedisInbox(bus, keys, name, commands=self.commands)


@pytest.fixture
async def owner(bus: RedisConnection, clock: RedisClock, keys: Keys) -> AsyncIterator[Side]:
    """Gateway `g1`, which holds session `s1`; `s0` has ended there."""
    for session, status in (("s1", "active"), ("s0", "ended")):
        state = keys.session_state(session)
        await bus.call("HSET", state, "owner", "g1", "status", status, "epoch", 7)
        await bus.call("EXPIRE", state, 60)
    side = Side("g1", bus, clock, keys)
    async with running(side.inbox.run(), side.outbox.run()):
        yield side


@pytest.fixture
async def asker(bus: RedisConnection, clock: RedisClock, keys: Keys) -> AsyncIterator[Side]:
    side = Side("g2", bus, clock, keys)
    async with running(side.inbox.run(), side.outbox.run()):
        yield side


async def test_a_command_reaches_the_session_and_its_answer_the_asker(owner: Side, asker: Side) -> None:
    got: list[Entry] = []
    owner.inbox.subscribe("s1", got.append)
    command_id = await asker.commands.send("s1", "approve", {"call_id": "c"}, tenant="local")
    (entry,) = got
    command = SessionCommand.of(entry)
    assert (entry.session, entry.epoch, command.command, command.command_id) == ("s1", 7, "approve", command_id)
    assert command.arguments == {"call_id": "c"}
    assert entry.deadline is not None


async def test_commands_at_once_get_each_its_own_answer(owner: Side, asker: Side) -> None:
    def deliver(entry: Entry) -> None:
        call_id = SessionCommand.of(entry).arguments["call_id"]
        if call_id % 2:
            raise CommandRefusedError("unknown_call", f"no call {call_id}")

    owner.inbox.subscribe("s1", deliver)
    sending = [asker.commands.send("s1", "approve", {"call_id": number}, tenant="local") for number in range(10)]
    answers = await asyncio.gather(*sending, return_exceptions=True)
    assert [str(answer) for answer in answers[1::2]] == [f"no call {number}" for number in range(1, 10, 2)]
    assert all(isinstance(answer, str) for answer in answers[::2])
    assert len(set(map(str, answers))) == 10


def raising(error: Exception) -> Callable[[Entry], None]:
    def deliver(entry: Entry) -> None:
        raise error

    return deliver


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandRefusedError("unknown_call", "no"), "unknown_call"),
        (ContractError("approve: call_id: missing", reason="malformed"), "invalid_value"),
        (RuntimeError("at 10.0.0.8"), "internal_error"),
    ],
)
async def test_what_the_owner_could_not_do_is_said(owner: Side, asker: Side, error: Exception, code: str) -> None:
    owner.inbox.subscribe("s1", raising(error))
    with pytest.raises(CommandRefusedError) as refused:
        await asker.commands.send("s1", "approve", {}, tenant="local")
    assert refused.value.code == code
    assert "10.0.0.8" not in str(refused.value)


@pytest.mark.parametrize(
    ("session", "code"), [("s1", "unknown_session"), ("s0", "session_ended"), ("s9", "unknown_session")]
)
async def test_a_session_that_is_not_there_is_said(owner: Side, asker: Side, session: str, code: str) -> None:
    with pytest.raises(CommandRefusedError) as refused:
        await asker.commands.send(session, "end", {}, tenant="local")
    assert refused.value.code == code


async def test_a_session_that_ends_while_a_command_is_on_its_way_has_ended(
    bus: RedisConnection, keys: Keys, owner: Side, asker: Side
) -> None:
    async def end() -> None:
        await bus.call("HSET", keys.session_state("s1"), "status", "ended")
        raise CommandRefusedError("unknown_session", "this gateway does not hold session 's1'")

    owner.inbox.subscribe("s1", lambda _: asyncio.ensure_future(end()))
    with pytest.raises(CommandRefusedError) as refused:
        await asker.commands.send("s1", "end", {}, tenant="local")
    assert refused.value.code == "session_ended"


async def test_an_owner_that_is_gone_is_not_waited_for_long(bus: RedisConnection, keys: Keys, asker: Side) -> None:
    state = keys.session_state("s1")
    await bus.call("HSET", state, "owner", "gone", "status", "active", "epoch", 1)
    await bus.call("EXPIRE", state, 60)
    with pytest.raises(CommandRefusedError) as refused:
        await asker.commands.send("s1", "end", {}, timeout_s=0.05, tenant="local")
    assert refused.value.code == "no_answer"
    assert "is gone" in str(refused.value)
    assert not asker.commands._waiting


async def test_answers_that_nobody_waits_for_and_malformed_ones_do_no_harm(
    bus: RedisConnection, clock: RedisClock, keys: Keys, owner: Side, asker: Side
) -> None:
    late = new_entry(SessionRef("s1", 1), SESSION_ANSWER, SessionAnswer(command_id="of yesterday"), clock)
    asker.outbox.send(asker.inbox.stream, late, ttl_s=60)
    asker.outbox.send(asker.inbox.stream, replace(late, id="m", data={}), ttl_s=60)
    owner.inbox.subscribe("s1", lambda entry: None)
    assert await asker.commands.send("s1", "interrupt", {}, tenant="local")

    async def dead() -> int:
        return int(await bus.call("XLEN", keys.dead("inbox")))

    assert await wait_until(dead, description="the malformed answer among the dead letters") == 1


async def test_an_answer_goes_nowhere_but_to_an_inbox(
    bus: RedisConnection, clock: RedisClock, keys: Keys, owner: Side
) -> None:
    owner.inbox.subscribe("s1", lambda entry: None)
    for number, reply_to in enumerate((keys.events(0), None)):
        command = SessionCommand(command_id=str(number), command="interrupt", reply_to=reply_to)
        owner.outbox.send(owner.inbox.stream, new_entry(SessionRef("s1", 1), SESSION_COMMAND, command, clock), ttl_s=60)
    await owner.commands.send("s1", "interrupt", {}, tenant="local")  # behind them
    assert await bus.call("EXISTS", keys.events(0)) == 0
