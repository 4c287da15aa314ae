"""From the gateway to the workers' streams, and from the inbox back to the sessions."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from support.servers import RedisServer
from support.tasks import running
from support.waiting import wait_until
from voicebus.adapters.redis import dead_letters
from voicebus.adapters.redis import inbox as inbox_module
from voicebus.adapters.redis.checking import RedisGuardrailDispatch
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import RedisToolDispatch, new_entry
from voicebus.adapters.redis.inbox import RedisInbox
from voicebus.adapters.redis.outbox import Outbox
from voicebus.adapters.redis.scripts import CLAIM
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_VERDICT, GuardrailVerdict
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_PROGRESS, TOOL_RESULT, Outcome, ToolProgress, ToolResult
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool
from voicebus.errors import BusError, ContractError
from voicebus.ports import Clock, GuardrailDispatch, Inbox, SessionRef, ToolDispatch

SESSION = SessionRef("s1", 3, traceparent="00-trace")
CALL = DispatchTool(
    call_id="c1", tool="get_weather", arguments='{"city": "Paris"}', agent="greeter", queue="weather", timeout_ms=5000,
    idempotent=True,
)  # fmt: skip


async def read(bus: RedisConnection, stream: str, count: int = 1) -> list[Entry]:
    async def enough() -> list[Entry]:
        found = [Entry.parse(fields) for _, fields in await bus.call("XRANGE", stream, "-", "+")]
        return found if len(found) >= count else []

    return await wait_until(enough, description=f"{count} entries in {stream}")


def progress(session: str, clock: Clock, text: str) -> Entry:
    return new_entry(SessionRef(session, 1), TOOL_PROGRESS, ToolProgress(call_id="c1", text=text), clock)


async def test_a_call_goes_to_its_queue_with_its_deadline(bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch: ToolDispatch = RedisToolDispatch(bus, outbox, clock, keys, reply_to=keys.inbox("g1"))
    async with running(outbox.run()):
        before = clock.at_ms()
        dispatch.dispatch(SESSION, CALL)
        (entry,) = await read(bus, keys.tools("weather"))
    assert (entry.type, entry.session, entry.epoch, entry.traceparent) == ("tool.call", "s1", 3, "00-trace")
    assert entry.deadline is not None
    assert 5000 <= entry.deadline - before < 10_000
    assert entry.data == {
        "call_id": "c1", "tool": "get_weather", "arguments": '{"city": "Paris"}', "agent": "greeter",
        "reply_to": keys.inbox("g1"), "attempt": 1, "hops": 0, "idempotent": True, "vetted": False,
        "replayed": False, "version": None, "context": {}, "caller": None,
    }  # fmt: skip


async def test_a_check_goes_to_the_sessions_shard(bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch: GuardrailDispatch = RedisGuardrailDispatch(outbox, clock, keys, reply_to=keys.inbox("g1"))
    check = DispatchCheck("k1", "r1", "i1", "greeter", ("no_swearing",), "some text", final=True)
    async with running(outbox.run()):
        dispatch.check(SESSION, check, timeout_ms=2000)
        (entry,) = await read(bus, keys.guardrails(keys.guardrail_shard("s1")))
    assert entry.type == "guardrail.check"
    assert entry.data["guardrails"] == ["no_swearing"]


def checks(*texts: str, item: str = "i1", rules: tuple[str, ...] = ("rule",)) -> list[DispatchCheck]:
    """The checks of one answer, as its text grows; the last one is final where the text before it was the same."""
    return [
        DispatchCheck(f"{item}-{n}", "r1", item, "greeter", rules, text, final=n > 0 and text == texts[n - 1])
        for n, text in enumerate(texts)
    ]


async def test_of_an_answers_checks_that_wait_only_the_newest_is_sent_and_names_the_others(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisGuardrailDispatch(outbox, clock, keys, reply_to=keys.inbox("g1"))
    for check in (*checks("a", "a b", "a b c", "a b c"), *checks("x", "x y", item="i2")):
        dispatch.check(SESSION, check, timeout_ms=2000)
    dispatch.check(SessionRef("s1", 3), checks("x y z", item="i2", rules=("another",))[0], timeout_ms=2000)
    stream = keys.guardrails(keys.guardrail_shard("s1"))
    async with running(outbox.run()):
        sent = await read(bus, stream, 3)
        assert [
            (one.data["check_id"], one.data["text"], one.data["final"], one.data["stands_for"]) for one in sent
        ] == [
            ("i1-3", "a b c", True, ["i1-0", "i1-1", "i1-2"]),
            ("i2-1", "x y", False, ["i2-0"]),
            ("i2-0", "x y z", False, []),
        ]
        # What has been sent cannot give way any more.
        dispatch.check(SESSION, checks("a b c d")[0], timeout_ms=2000)
        assert (await read(bus, stream, 4))[-1].data["stands_for"] == []


async def test_a_final_check_does_not_give_way_to_one_that_is_not(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisGuardrailDispatch(outbox, clock, keys, reply_to=keys.inbox("g1"))
    final = DispatchCheck("k1", "r1", "i1", "greeter", ("rule",), "some text", final=True)
    dispatch.check(SESSION, final, timeout_ms=2000)
    dispatch.check(SESSION, checks("some text that grows")[0], timeout_ms=2000)
    async with running(outbox.run()):
        sent = await read(bus, keys.guardrails(keys.guardrail_shard("s1")), 2)
    assert [one.data["final"] for one in sent] == [True, False]


async def test_checks_that_were_never_sent_are_forgotten(clock: RedisClock, keys: Keys, bus: RedisConnection) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisGuardrailDispatch(outbox, clock, keys, reply_to=keys.inbox("g1"))
    dispatch.check(SESSION, checks("too late")[0], timeout_ms=-1)
    async with running(outbox.run()):
        await outbox.drain(5)
        dispatch.check(SESSION, checks("too late", "and now")[1], timeout_ms=2000)
        (sent,) = await read(bus, keys.guardrails(keys.guardrail_shard("s1")))
    assert (sent.data["text"], sent.data["stands_for"]) == ("and now", [])


async def test_a_cancelled_call_does_not_start(bus: RedisConnection, clock: RedisClock, keys: Keys) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisToolDispatch(bus, outbox, clock, keys, reply_to=keys.inbox("g1"))
    key = keys.call("weather", "s1", "c1")
    dispatch.cancel(SESSION, CancelTool("c1", "weather", None, "hangup"))

    async def cancelled() -> object:
        return await bus.call("HGET", key, "cancelled")

    await wait_until(cancelled, description="the call to be marked")
    await dispatch.aclose()
    claim = await bus.script(CLAIM, [key], "w1", 3, "inbox", "", 0, 60, "")
    assert claim == ["cancelled", "hangup"]


@pytest.mark.parametrize("known", ["w1", None])
async def test_the_worker_that_runs_a_call_is_told_of_its_cancel(
    bus: RedisConnection, clock: RedisClock, keys: Keys, known: str | None
) -> None:
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisToolDispatch(bus, outbox, clock, keys, reply_to=keys.inbox("g1"))
    assert await bus.script(CLAIM, [keys.call("weather", "s1", "c1")], "w1", 3, "inbox", "", 0, 60, "") == [
        "start",
        "1",
    ]
    async with running(outbox.run()):
        dispatch.cancel(SESSION, CancelTool("c1", "weather", known, "hangup"))
        (entry,) = await read(bus, keys.control("w1"))
        await asyncio.gather(*dispatch._cancelling)
        await outbox.drain(5)
    assert entry.data == {"call_id": "c1", "reason": "hangup"}
    assert await bus.call("XLEN", keys.control("w1")) == 1


async def test_a_gateway_that_ends_tells_the_worker_of_a_cancel_that_came_last(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    """Its session ended with it, before it had heard which worker runs the call."""
    outbox = Outbox(bus, clock, service="gateway")
    dispatch = RedisToolDispatch(bus, outbox, clock, keys, reply_to=keys.inbox("g1"))
    await bus.script(CLAIM, [keys.call("weather", "s1", "c1")], "w1", 3, "inbox", "", 0, 60, "")
    async with running(outbox.run()):
        dispatch.cancel(SESSION, CancelTool("c1", "weather", None, "hangup"))
        await dispatch.aclose(5)
        await outbox.drain(5)
    assert await bus.call("XLEN", keys.control("w1")) == 1


async def test_entries_reach_the_session_they_name_and_only_once(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g1")
    _: Inbox = inbox
    got: list[tuple[str, str]] = []
    inbox.subscribe("a", lambda entry: got.append(("a", entry.data["text"])))
    inbox.subscribe("b", lambda entry: got.append(("b", entry.data["text"])))

    def broken(entry: Entry) -> None:
        raise RuntimeError("one session's failure")

    inbox.subscribe("broken", broken)
    outbox = Outbox(bus, clock, service="tool-worker")
    again = progress("b", clock, "second")
    async with running(inbox.run(), outbox.run()):
        for entry in (
            progress("a", clock, "first"), again, again, progress("broken", clock, "x"), progress("gone", clock, "x"),
            progress("a", clock, "third"),
        ):  # fmt: skip
            outbox.send(inbox.stream, entry, ttl_s=60)
        await wait_until(lambda: len(got) >= 3, description="three entries")
    assert got == [("a", "first"), ("b", "second"), ("a", "third")]


async def test_messages_that_a_worker_gives_one_id_all_reach_their_sessions(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g1")
    got: list[tuple[str, str]] = []
    inbox.subscribe("a", lambda entry: got.append(("a", entry.data["text"])))
    inbox.subscribe("b", lambda entry: got.append(("b", entry.data["text"])))
    outbox = Outbox(bus, clock, service="tool-worker")
    async with running(inbox.run(), outbox.run()):
        for entry in (
            progress("a", clock, "first"), progress("b", clock, "first"), progress("a", clock, "second"),
            progress("a", clock, "first"), progress("a", clock, "third"),
        ):  # fmt: skip
            outbox.send(inbox.stream, replace(entry, id="1"), ttl_s=60)
        await wait_until(lambda: ("a", "third") in got, description="the last one")
    assert got == [("a", "first"), ("b", "first"), ("a", "second"), ("a", "third")]


async def test_an_inbox_entry_of_a_newer_version_is_dead_lettered(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g1")
    fields = progress("a", clock, "text").fields() | {"v": "2"}
    entry_id = await bus.call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])
    async with running(inbox.run()):

        async def letters() -> list[tuple[str, dict[str, str]]]:
            found: list[tuple[str, dict[str, str]]] = await bus.call("XRANGE", keys.dead("inbox"), "-", "+")
            return found

        ((_, letter),) = await wait_until(letters, description="the dead letter")
    assert letter["reason"] == "unsupported_version"
    assert letter["origin"] == f"{inbox.stream}/{entry_id}"
    assert letter["data"] == fields["data"]


async def test_what_was_read_is_trimmed_and_the_rest_is_not(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g1")
    got: list[str] = []
    inbox.subscribe("a", lambda entry: got.append(entry.data["text"]))

    async def put(text: str) -> None:
        fields = progress("a", clock, text).fields()
        await bus.call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])

    await put("read")
    async with running(inbox.run()):
        await wait_until(lambda: got, description="the entry")
    await put("unread")
    await inbox._tail.tidy()
    assert [entry.data["text"] for entry in await read(bus, inbox.stream)] == ["unread"]
    assert await bus.call("TTL", inbox.stream) > 0


async def test_an_inbox_entry_that_its_session_cannot_read_is_dead_lettered(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g1")

    def refuse(entry: Entry) -> None:
        raise ContractError("no session reads this", reason="unexpected_type")

    inbox.subscribe("a", refuse)
    async with running(inbox.run()):
        fields = progress("a", clock, "x").fields()
        await bus.call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])

        async def dead() -> list[tuple[str, dict[str, str]]]:
            found: list[tuple[str, dict[str, str]]] = await bus.call("XRANGE", keys.dead("inbox"), "-", "+")
            return found

        ((_, letter),) = await wait_until(dead, description="the dead letter")
    assert letter["reason"] == "unexpected_type"


@pytest.mark.parametrize(
    "wrong", [{"output": {"price": 1}}, {"outcome": "fine"}, {"error": "no"}, {"reference": "vb:config"}]
)
async def test_a_result_that_cannot_be_read_ends_its_call_at_once_as_unknown(
    bus: RedisConnection, clock: RedisClock, keys: Keys, wrong: dict[str, Any]
) -> None:
    inbox = RedisInbox(bus, keys, "g1")
    got: list[ToolResult] = []
    inbox.subscribe("s1", lambda entry: got.append(ToolResult.of(entry)))
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="done", worker="w", duration_ms=1)
    entry = new_entry(SESSION, TOOL_RESULT, result, clock)
    fields = replace(entry, data={**entry.data, **wrong}).fields()
    async with running(inbox.run()):
        await bus.call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])
        await wait_until(lambda: got, description="the end of the call")
        await wait_until(lambda: bus.call("XLEN", keys.dead("inbox")), description="the dead letter")
    assert [(one.call_id, one.outcome) for one in got] == [("c1", Outcome.UNKNOWN)]
    assert got[0].error is not None
    assert got[0].error.kind == "malformed"


async def test_a_late_result_that_cannot_be_read_ends_its_call_as_well(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    inbox = RedisInbox(bus, keys, "g2")
    got: list[ToolResult] = []
    inbox.subscribe("s1", lambda entry: got.append(ToolResult.of(entry)))
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="done", worker="w", duration_ms=1)
    entry = new_entry(SESSION, TOOL_RESULT, result, clock)
    await inbox.late(replace(entry, data={**entry.data, "output": {"price": 1}}).fields())
    assert [(one.call_id, one.outcome) for one in got] == [("c1", Outcome.UNKNOWN)]


async def test_entries_queued_while_redis_was_away_arrive_when_it_is_back() -> None:
    keys = Keys("vb")
    with RedisServer(persistent=True) as server:
        async with await connect(server.url) as bus:
            clock = RedisClock(bus)
            inbox, outbox = RedisInbox(bus, keys, "g1"), Outbox(bus, clock, service="tool-worker")
            got: list[str] = []
            inbox.subscribe("a", lambda entry: got.append(entry.data["text"]))
            async with running(inbox.run(), outbox.run()):
                for n in range(200):
                    outbox.send(inbox.stream, progress("a", clock, str(n)))
                    if n == 100:
                        await wait_until(lambda: got, description="the first entry")
                        server.kill()
                server.start()
                await wait_until(lambda: len(got) >= 200, description="all entries", timeout=20)
    assert got == [str(n) for n in range(200)]


async def test_an_odd_record_among_calls_that_are_claimed_together_harms_none_of_the_others(
    bus: RedisConnection, keys: Keys
) -> None:
    calls = [keys.call("q", "s1", f"c{number}") for number in range(4)]
    await bus.call("SET", calls[2], "not a record", "EX", 60)
    claims = (bus.script(CLAIM, [key], "w1", 1, "inbox", "", 0, 60, "") for key in calls)
    replies = await asyncio.gather(*claims, return_exceptions=True)
    assert [reply if isinstance(reply, BaseException) else reply[0] for reply in replies[:2] + replies[3:]] == [
        "start"
    ] * 3
    assert isinstance(replies[2], BusError)
    await bus.call("DEL", *calls)


async def test_the_archivers_wish_for_events_goes_to_the_journal_and_to_no_session(
    bus: RedisConnection, clock: RedisClock, keys: Keys
) -> None:
    wished: list[tuple[str, int, int]] = []

    async def resend(session: str, first: int, last: int) -> int:
        wished.append((session, first, last))
        return last - first + 1

    inbox = RedisInbox(bus, keys, "g1", on_resend=resend)

    async def put(**span: int) -> None:
        data = {"command_id": f"c{len(wished)}{span}", "command": "resend", **span}
        entry = Entry(id=f"m{span}", type="session.command", session="s1", epoch=1, at=clock.at_ms(), data=data)
        await bus.call("XADD", inbox.stream, "*", *[part for pair in entry.fields().items() for part in pair])

    async with running(inbox.run()):
        await put(**{"from": 3, "to": 5})
        await put(**{"from": 0, "to": 5})
        await put(**{"from": 7, "to": 7})
        await wait_until(lambda: len(wished) == 2, description="both to be read")
    assert wished == [("s1", 3, 5), ("s1", 7, 7)]
    (letter,) = await bus.call("XRANGE", keys.dead("inbox"), "-", "+")
    assert letter[1]["reason"] == "malformed"


async def test_a_call_whose_queue_is_no_stream_is_answered_at_once_and_the_key_is_named(
    bus: RedisConnection, clock: RedisClock, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    queue = keys.tools("default")
    await bus.call("SET", queue, "no stream", "EX", 60)
    outbox = Outbox(bus, clock, service="gateway")
    answers: list[Entry] = []
    tools = RedisToolDispatch(bus, outbox, clock, keys, reply_to=keys.inbox("g1"), answer=answers.append)
    with caplog.at_level("INFO"):
        async with running(outbox.run()):
            tools.dispatch(SessionRef("s1", 1), DispatchTool("c1", "add", "{}", "a", "default", 60_000, False))
            await wait_until(lambda: answers, description="the answer")
    result = ToolResult.of(answers[0])
    assert (result.call_id, result.outcome, result.error and result.error.kind) == ("c1", Outcome.ERROR, "bus_refused")
    assert result.error is not None
    assert "WRONGTYPE" in result.error.message
    assert queue in result.error.message
    assert "not run" in result.output
    assert any(queue in record.getMessage() for record in caplog.records if "not sent" in record.getMessage())


async def test_an_inbox_that_is_no_stream_is_told_by_its_key_and_read_again_once_it_is_one(
    bus: RedisConnection, keys: Keys
) -> None:
    told: list[str | None] = []
    inbox = RedisInbox(bus, keys, "g1", on_refused=told.append)
    await bus.call("SET", inbox.stream, "no stream", "EX", 60)
    async with running(inbox.run()):
        await wait_until(lambda: told, description="the refusal")
        assert told[0] is not None
        assert "WRONGTYPE" in told[0]
        assert inbox.stream in told[0]
        await bus.call("DEL", inbox.stream)
        await wait_until(lambda: told[-1] is None, description="the inbox to be read again")


async def test_a_late_answer_is_brought_once_redis_has_told_what_it_refers_to(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, got, record = RedisInbox(bus, keys, "g2"), [], keys.call("weather", "s1", "c1")
    inbox.subscribe("s1", lambda entry: got.append(entry.data["output"]))
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="sunny", error=None, worker="w", duration_ms=1)
    await bus.call("HSET", record, "result", result.model_dump_json())
    await bus.call("EXPIRE", record, 60)
    short = result.model_copy(update={"output": "", "reference": record})
    fields = new_entry(SESSION, TOOL_RESULT, short, clock).fields()
    with monkeypatch.context() as away:

        async def refuses(*_: Any, **__: Any) -> Any:
            raise BusError("Redis is away")

        away.setattr(bus, "call", refuses)
        with pytest.raises(BusError):
            await inbox.late(fields)
    await inbox.late(fields)
    await inbox.late(fields)
    assert got == ["sunny"]


async def test_an_entry_that_is_refused_while_redis_is_away_is_dead_lettered_all_the_same(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    write = dead_letters.write_dead_letter

    async def fails_once(*arguments: Any, **more: Any) -> None:
        tries.append(more["reason"])
        if len(tries) == 1:
            raise BusError("Redis is away")
        await write(*arguments, **more)

    def refuse(entry: Entry) -> None:
        raise ContractError("no session reads this", reason="unexpected_type")

    monkeypatch.setattr(inbox_module, "write_dead_letter", fails_once)
    inbox = RedisInbox(bus, keys, "g1")
    inbox.subscribe("a", refuse)
    async with running(inbox.run()):
        fields = progress("a", clock, "x").fields()
        await bus.call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])

        async def dead() -> Any:
            return await bus.call("XRANGE", keys.dead("inbox"), "-", "+")

        await wait_until(dead, description="the dead letter")
    assert tries == ["unexpected_type"] * 2


async def test_a_verdict_does_not_wait_for_a_result_that_has_to_be_fetched_and_the_rest_of_its_call_does(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, got, fetch = RedisInbox(bus, keys, "g1"), [], asyncio.Event()
    call = bus.call

    async def slow(command: str, *arguments: Any, **more: Any) -> Any:
        if command == "HGET":
            await fetch.wait()
        return await call(command, *arguments, **more)

    def add(kind: str, data: Any) -> Any:
        fields = new_entry(SESSION, kind, data, clock).fields()
        return call("XADD", inbox.stream, "*", *[part for pair in fields.items() for part in pair])

    inbox.subscribe("s1", lambda entry: got.append((entry.type, entry.data.get("output") or entry.data.get("text"))))
    record = keys.call("weather", "s1", "c1")
    result = ToolResult(call_id="c1", outcome=Outcome.OK, output="sunny", error=None, worker="w", duration_ms=1)
    verdict = GuardrailVerdict(check_id="k1", response_id="r1", results=[], worker="w", duration_ms=1)
    await call("HSET", record, "result", result.model_dump_json())
    await call("EXPIRE", record, 60)
    monkeypatch.setattr(bus, "call", slow)
    async with running(inbox.run()):
        await add(TOOL_RESULT, result.model_copy(update={"output": "", "reference": record}))
        await add(TOOL_PROGRESS, ToolProgress(call_id="c1", text="behind it"))
        await add(TOOL_PROGRESS, ToolProgress(call_id="c2", text="another call"))
        await add(GUARDRAIL_VERDICT, verdict)
        await wait_until(lambda: len(got) == 2, description="what needs nothing more of Redis")
        assert got == [(TOOL_PROGRESS, "another call"), (GUARDRAIL_VERDICT, None)]
        fetch.set()
        await wait_until(lambda: len(got) == 4, description="the rest")
    assert got[2:] == [(TOOL_RESULT, "sunny"), (TOOL_PROGRESS, "behind it")]


async def test_results_that_are_fetched_at_once_are_bounded(
    bus: RedisConnection, clock: RedisClock, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_MAX_APART", 2)
    inbox, got, asked, fetch = RedisInbox(bus, keys, "g1"), [], [], asyncio.Event()

    async def slow(_: Any, __: Any, entry: Entry) -> Entry:
        asked.append(entry.data["call_id"])
        await fetch.wait()
        return entry

    monkeypatch.setattr(inbox_module, "whole", slow)
    inbox.subscribe("s1", lambda entry: got.append(entry.data["call_id"]))
    result = ToolResult(call_id="", outcome=Outcome.OK, output="", error=None, worker="w", duration_ms=1, reference="r")

    async def route() -> None:
        for call in ("c1", "c2", "c3"):
            fields = new_entry(SESSION, TOOL_RESULT, result.model_copy(update={"call_id": call}), clock).fields()
            await inbox._route("1-1", fields)

    last = asyncio.create_task(route())
    await wait_until(lambda: len(asked) == 2, description="two that are being fetched")
    assert not last.done()
    fetch.set()
    await last
    await wait_until(lambda: len(got) == 3, description="all of them")
    assert asked == got == ["c1", "c2", "c3"]
