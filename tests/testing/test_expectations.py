"""Assertions over a session's events: what fulfils them, how long they wait, and what a failure tells."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from voicebus import GuardrailFunctionOutput, OutputGuardrail, RealtimeAgent, RunContextWrapper
from voicebus.agents.events import (
    RealtimeAudio,
    RealtimeError,
    RealtimeEventInfo,
    RealtimeGuardrailTripped,
    RealtimeHandoffEvent,
    RealtimeHistoryAdded,
    RealtimeRawModelEvent,
    RealtimeTranscriptDelta,
)
from voicebus.agents.guardrails import OutputGuardrailResult
from voicebus.agents.items import AssistantMessageItem, AssistantText
from voicebus.agents.models.events import RealtimeModelAudioEvent, RealtimeModelTurnStartedEvent
from voicebus.testing import ExpectationFailed, Recording, recorded

INFO = RealtimeEventInfo(RunContextWrapper(None))


class Source:
    """A session that says what a test tells it to."""

    def __init__(self, *events: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.says(*events)

    def says(self, *events: Any) -> None:
        for event in events:
            self.queue.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


@asynccontextmanager
async def recording(*events: Any, within: float = 5) -> AsyncIterator[tuple[Recording, Source]]:
    """A recording in which these events have happened already."""
    source = Source(*events, {"type": "here"})
    async with recorded(source, within=within) as made:
        await made.expect_event("here")
        yield made, source


def call(call_id: str, tool: str, arguments: str = "{}", **end: Any) -> dict[str, Any]:
    kind = "tool_end" if end else "tool_start"
    return {"type": kind, "call_id": call_id, "tool": tool, "arguments": arguments, **end}


def said(text: str, item: str = "i1", role: str = "assistant") -> dict[str, Any]:
    return {"type": "transcript_delta", "item_id": item, "role": role, "delta": text[-3:], "text": text}


async def fails(expectation: Any) -> str:
    with pytest.raises(ExpectationFailed) as caught:
        await expectation
    return str(caught.value)


async def test_an_expectation_waits_for_what_has_not_happened_yet() -> None:
    async with recording() as (events, source):
        asyncio.get_running_loop().call_later(0.02, source.says, call("c1", "get_weather", '{"city": "Paris"}'))
        event = await events.expect_tool("get_weather").with_arguments(city="Paris").within(5)
        assert (event.type, event.data["call_id"]) == ("tool_start", "c1")
        assert event.at_ms >= 0


async def test_what_has_happened_already_fulfils_an_expectation() -> None:
    async with recording(said("It is"), said("It is sunny.")) as (events, _):
        await events.expect_text(containing="sunny")
        await events.expect_text(matching=r"^It is \w+\.$")
        await events.expect_text(equal_to="It is sunny. ")
        await events.expect_text()


async def test_an_expectation_that_is_not_met_in_time_tells_what_happened_instead() -> None:
    happened = (
        said("What is the weather?", "u1", "user"),
        call("c1", "get_weather", '{"city": "London"}'),
        call("c1", "get_weather", '{"city": "London"}', output="rain", outcome="ok"),
        said("It rains", "a1"),
        said("It rains.", "a1"),
        {"type": "error", "code": "busy", "message": "Later."},
    )
    async with recording(*happened) as (events, _):
        message = await fails(events.expect_tool("get_weather").with_arguments(city="Paris").within(0.01))
    first, instead, *timeline = message.splitlines()
    assert first == "expected a call of get_weather with city='Paris'; it did not come within 0.01 s"
    assert instead == "  instead: get_weather(city='London') ended ok with 'rain'"
    assert timeline[0] == "what happened instead:"
    told = [line.split(" ms  ")[1].split(maxsplit=1) for line in timeline[1:]]
    assert told[:-1] == [
        ["transcript_delta", "user: 'What is the weather?'"],
        ["tool_start", "get_weather(city='London')"],
        ["tool_end", "get_weather(city='London') -> ok 'rain'"],
        ["transcript_delta", "assistant: 'It rains.'"],
        ["error", "busy: Later."],
    ]


async def test_one_call_fulfils_one_expectation_and_a_text_several() -> None:
    async with recording(call("c1", "book"), call("c1", "book", output="ok"), said("a and b")) as (events, source):
        await events.expect_tool("book")
        message = await fails(events.expect_tool("book").within(0.01))
        assert "fulfilled another expectation" in message
        source.says(call("c2", "book"))
        assert (await events.expect_tool("book")).data["call_id"] == "c2"
        await events.expect_text(containing="a")
        await events.expect_text(containing="b")


@pytest.mark.parametrize(
    ("refine", "fits"),
    [
        (lambda tool: tool.with_output("sunny"), False),
        (lambda tool: tool.with_output({"condition": "sunny"}), True),
        (lambda tool: tool.with_output({"condition": "rainy"}), False),
        (lambda tool: tool.with_output(containing="sunny"), True),
        (lambda tool: tool.with_output(containing="rainy"), False),
        (lambda tool: tool.with_output(lambda output: output["at"] == 7), True),
        (lambda tool: tool.with_outcome("ok"), True),
        (lambda tool: tool.with_outcome("error"), False),
        (lambda tool: tool.with_arguments({"city": lambda city: city.startswith("P")}), True),
        (lambda tool: tool.with_arguments(city="Paris", unit="C"), False),
    ],
)
@pytest.mark.parametrize("output", ['{"condition": "sunny", "at": 7}', {"condition": "sunny", "at": 7}])
async def test_a_call_is_told_by_its_arguments_output_and_outcome(refine: Any, fits: bool, output: Any) -> None:
    arguments = '{"city": "Paris"}'
    ended = call("c1", "get_weather", arguments, output=output, outcome="ok")
    async with recording(call("c1", "get_weather", arguments), ended) as (events, _):
        expectation = refine(events.expect_tool("get_weather")).within(0)
        if fits:
            await expectation
        else:
            await fails(expectation)


async def test_a_refused_call_counts_as_one_although_it_never_started() -> None:
    refused = call("c1", "book", "{}", output="Tool execution was not approved.", outcome="ok")
    async with recording(refused) as (events, _):
        await events.expect_tool("book").with_output(containing="not approved")


async def test_nothing_of_a_kind_happens_for_a_while() -> None:
    async with recording(said("fine")) as (events, source):
        await events.expect_no(events.expect_tool("book"), events.expect_error())
        await events.expect_no(events.expect_tool("book")).within(0.02)
        asyncio.get_running_loop().call_later(0.02, source.says, call("c1", "book"))
        message = await fails(events.expect_no(events.expect_tool("book")).within(5))
        assert message.startswith("expected none of this: a call of book; but tool_start came at ")
        await events.expect_tool("book")
        await events.expect_no(events.expect_tool("book"))


async def test_things_happen_in_an_order() -> None:
    happened = (call("c1", "find"), said("found"), {"type": "handoff", "from_agent": "a", "to_agent": "b"})
    async with recording(*happened, call("c2", "book"), {"type": "late"}) as (events, _):
        wanted = (events.expect_tool("find"), events.expect_handoff(to="b"), events.expect_tool("book"))
        last = await events.expect_order(*wanted)
        assert last.data["call_id"] == "c2"
        wanted_again = (events.expect_text("found"), events.expect_event("late"), events.expect_handoff())
        message = await fails(events.expect_order(*wanted_again).within(0))
        assert "missing in its place: a handoff" in message
        await fails(events.expect_tool("find").within(0))


async def test_an_order_that_is_another_says_what_came_earlier() -> None:
    async with recording(call("c1", "book"), call("c2", "find")) as (events, _):
        message = await fails(events.expect_order(events.expect_tool("find"), events.expect_tool("book")).within(0))
        assert "instead: missing in its place: a call of book; it came earlier, at " in message
        assert (await events.expect_tool("book")).data["call_id"] == "c1", "a failed order has used nothing up"


async def test_after_a_mark_only_what_is_new_counts() -> None:
    async with recording(said("hello", "a1"), call("c1", "find")) as (events, source):
        events.mark()
        source.says(
            said("hello again", "a1"),
            {"type": "history_updated", "history": [{"type": "message", "role": "assistant", "item_id": "a1",
             "content": [{"type": "text", "text": "hello"}]}]},
            {"type": "there"},
        )  # fmt: skip
        await events.expect_event("there")
        await fails(events.expect_text(containing="hello").within(0))
        await fails(events.expect_tool("find").within(0))
        source.says(said("hello, new", "a2"))
        await events.expect_text(containing="hello")


async def test_the_end_of_a_session_fails_what_is_still_expected_at_once() -> None:
    async with recording() as (events, source):
        source.says(None)
        assert "the session ended before" in await fails(events.expect_text("x").within(60))
    async with recording() as (events, source):
        source.says(ConnectionError("gone"))
        message = await fails(events.expect_text("x").within(60))
        assert "the session failed before: ConnectionError: gone" in message
        assert events.ended


async def test_an_expectation_that_nobody_awaits_fails_the_test() -> None:
    async def forget() -> None:
        async with recording() as (events, _):
            events.expect_tool("book")

    with pytest.raises(ExpectationFailed, match="never awaited: a call of book"):
        await forget()


async def test_a_failure_of_the_test_itself_comes_before_what_was_never_awaited() -> None:
    async def fail() -> None:
        async with recording() as (events, _):
            events.expect_tool("book")
            raise KeyError("the test's own")

    with pytest.raises(KeyError, match="own"):
        await fail()


async def test_events_of_a_session_in_process_are_read_alike() -> None:
    def judged(_: Any, __: Any, ___: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered=True)

    a, b = RealtimeAgent("a"), RealtimeAgent("b")
    guardrail: OutputGuardrail[Any] = OutputGuardrail(judged)
    result = OutputGuardrailResult(guardrail, "bad words", a, GuardrailFunctionOutput(None, tripwire_triggered=True))
    sound = RealtimeModelAudioEvent(bytes(480), "r1", "i1", 0)
    item = AssistantMessageItem(item_id="i2", content=[AssistantText(text="written")])
    happened = (
        RealtimeRawModelEvent(RealtimeModelTurnStartedEvent(), INFO),
        RealtimeHandoffEvent(a, b, INFO),
        RealtimeAudio(sound, "i1", 0, INFO),
        RealtimeAudio(sound, "i1", 0, INFO),
        RealtimeTranscriptDelta("i1", "assistant", "bad", "bad", INFO),
        RealtimeGuardrailTripped([result], "bad words", INFO),
        RealtimeHistoryAdded(item, INFO),
        RealtimeError({"code": "x", "message": "y"}, INFO),
    )
    async with recording(*happened) as (events, _):
        await events.expect_handoff(to="b", from_="a")
        await events.expect_audio()
        await events.expect_text("bad")
        await events.expect_text("written")
        await events.expect_guardrail("judged")
        await events.expect_error("x: y")
        assert events.of("audio")[0].data["bytes"] == 480
        assert not events.of("raw_model_event")
        lines = [line.split(" ms  ")[1].split(maxsplit=1) for line in events.timeline().splitlines()]
        assert lines[:-1] == [
            ["handoff", "a -> b"],
            ["audio", "960 bytes of i1"],
            ["transcript_delta", "assistant: 'bad'"],
            ["guardrail_tripped", "judged: 'bad words'"],
            ["history_added", "assistant: 'written'"],
            ["error", "x: y"],
        ]


@pytest.mark.parametrize(
    ("expect", "event"),
    [
        (lambda events: events.expect_interruption(), {"type": "audio_interrupted", "item_id": "i"}),
        (lambda events: events.expect_approval("book"), {"type": "tool_approval_required", "tool": "book"}),
        (lambda events: events.expect_guardrail(), {"type": "input_guardrail_tripped", "guardrails": ["g"]}),
        (lambda events: events.expect_guardrail("g"), {"type": "guardrail_tripped", "guardrails": ["f", "g"]}),
        (lambda events: events.expect_text("hi", role="user"), said("hi there", "u", "user")),
        (lambda events: events.expect_event("x", a={"b": 1}), {"type": "x", "a": {"b": 1, "c": 2}}),
        (lambda events: events.expect_error("late"), {"type": "error", "code": "c", "message": "too late"}),
    ],
)
@pytest.mark.parametrize("other", [{"type": "x", "a": {}}, said("hi"), {"type": "error", "code": "c"}])
async def test_each_kind_of_event_fulfils_its_expectation_and_no_other_does(
    expect: Any, event: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    async with recording(event) as (events, _):
        assert (await expect(events)).type == event["type"]
    async with recording(other) as (events, _):
        await fails(expect(events).within(0))


async def test_a_long_timeline_shows_its_end() -> None:
    async with recording(*({"type": "tick", "n": number} for number in range(100))) as (events, _):
        lines = events.timeline().splitlines()
        assert lines[0].strip() == "… 61 earlier lines"
        assert len(lines) == 41
        assert "here" in lines[-1]
        assert len(max(lines, key=len)) <= 110
        assert events.timeline(since=len(events.events)).strip() == "(nothing happened)"
