"""A session over a `RealtimeModel` of the program's own: what it hears, what it is told, and how it may fail."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus import (
    AssistantAudio,
    AssistantMessageItem,
    GuardrailFunctionOutput,
    InputAudio,
    InputGuardrail,
    InputText,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeModel,
    RealtimeModelAudioDoneEvent,
    RealtimeModelAudioEvent,
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelConnectionStatusEvent,
    RealtimeModelEndOfStreamEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelExceptionEvent,
    RealtimeModelInputAudioTimeoutTriggeredEvent,
    RealtimeModelInputAudioTranscriptionCompletedEvent,
    RealtimeModelItemDeletedEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelOtherEvent,
    RealtimeModelOutputTextDeltaEvent,
    RealtimeModelRawServerEvent,
    RealtimeModelSendAudio,
    RealtimeModelSendEvent,
    RealtimeModelSendInterrupt,
    RealtimeModelSendRawMessage,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
    RealtimeModelToolCallEvent,
    RealtimeModelTranscriptDeltaEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
    RealtimeModelUsageEvent,
    RealtimeRunConfig,
    RealtimeRunner,
    RealtimeSession,
    RealtimeToolCallItem,
    Usage,
    UserError,
    UserMessageItem,
    function_tool,
)
from voicebus.agents.local import sending
from voicebus.testing import RealtimeStep, ScriptedRealtimeModel, UnexpectedRealtimeSend

runs: list[str] = []


def untyped(value: Any) -> Any:
    """A value without its type: what type checkers refuse must harm nothing at run time."""
    return value


@function_tool
async def find_rate(city: str) -> str:
    """Find what a room costs."""
    runs.append(city)
    return f"a room in {city} is 100"


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def agent(**fields: Any) -> RealtimeAgent[Any]:
    return RealtimeAgent(**{"name": "desk", "instructions": "You help.", "tools": [find_rate], **fields})


async def session_with(
    model: RealtimeModel, who: RealtimeAgent[Any] | None = None, config: RealtimeRunConfig | None = None, **more: Any
) -> RealtimeSession:
    return await RealtimeRunner(who or agent(), model=model, config=config).run(**more)


def call(
    call_id: str = "c1", name: str = "find_rate", arguments: str = '{"city":"Rome"}'
) -> RealtimeModelToolCallEvent:
    return RealtimeModelToolCallEvent(name=name, call_id=call_id, arguments=arguments, id=f"item-{call_id}")


def turn(response_id: str, *events: RealtimeModelEvent) -> list[RealtimeModelEvent]:
    return [
        RealtimeModelTurnStartedEvent(response_id=response_id),
        *events,
        RealtimeModelTurnEndedEvent(response_id=response_id),
    ]


def label(event: Any) -> str:
    return f"raw {event.data.type}" if event.type == "raw_model_event" else str(event.type)


async def until(session: RealtimeSession, kind: str, times: int = 1) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(10):
        async for event in session:
            events.append(event)
            times -= label(event) == kind
            if times == 0:
                break
    return events


async def test_a_turn_without_an_id_takes_that_of_what_is_said_in_it() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await model.emit(
            RealtimeModelTurnStartedEvent(), RealtimeModelAudioEvent(bytes(100), "r1", "i1", 0),
            RealtimeModelTurnEndedEvent(),
            RealtimeModelTurnStartedEvent(), RealtimeModelAudioEvent(bytes(100), "r2", "i2", 0),
            RealtimeModelTurnEndedEvent(),
        )  # fmt: skip
        events = await until(session, "agent_end", 2)
        assert [label(event) for event in events if not label(event).startswith("raw")] == [
            "history_updated", *["agent_start", "audio_start", "audio", "agent_end"] * 2,
        ]  # fmt: skip


async def test_the_history_is_what_the_models_items_make_it() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await model.emit(call())
        events = await until(session, "tool_end")
        assert [label(event) for event in events if not label(event).startswith("raw")] == [
            "history_updated", "tool_start", "tool_end",
        ]  # fmt: skip
        assert session.history == []


async def test_a_whole_conversation_follows_the_script() -> None:
    asked = call()
    said = AssistantMessageItem(item_id="i3", status="completed", content=[AssistantAudio(transcript="hundred")])
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(
                RealtimeModelSendUserInput("hi"),
                [
                    RealtimeModelItemUpdatedEvent(UserMessageItem(item_id="u1", content=[InputText(text="hi")])),
                    *turn(
                        "r1",
                        RealtimeModelItemUpdatedEvent(
                            RealtimeToolCallItem(
                                item_id="item-c1",
                                call_id="c1",
                                name="find_rate",
                                arguments=asked.arguments,
                                status="in_progress",
                            )
                        ),
                        asked,
                        RealtimeModelUsageEvent(Usage(requests=1, input_tokens=3, output_tokens=4, total_tokens=7)),
                    ),
                ],
            ),
            RealtimeStep(
                RealtimeModelSendToolOutput(asked, "a room in Rome is 100", start_response=True),
                turn(
                    "r2",
                    RealtimeModelItemUpdatedEvent(AssistantMessageItem(item_id="i3", status="in_progress", content=[])),
                    RealtimeModelAudioEvent(bytes(100), "r2", "i3", 0),
                    RealtimeModelTranscriptDeltaEvent("i3", "hundred", "r2"),
                    RealtimeModelAudioDoneEvent("i3", 0),
                    RealtimeModelItemUpdatedEvent(said),
                ),
            ),
        ],
        connect_events=[RealtimeModelConnectionStatusEvent("connected")],
    )
    async with await session_with(model) as session:
        assert session.model is model
        assert session in model.listeners
        await session.send_message("hi")
        events = await until(session, "agent_end", 2)
        # What the model says while it connects comes before the first event (parity 2.1).
        assert [label(event) for event in events] == [
            "raw connection_status", "history_updated",
            "raw item_updated", "history_added",
            "raw turn_started", "agent_start", "raw item_updated", "history_added", "raw function_call", "tool_start",
            "raw usage", "raw turn_ended", "agent_end",
            "tool_end",
            "raw turn_started", "agent_start", "raw item_updated", "history_added",
            "raw audio", "audio_start", "audio", "raw transcript_delta", "transcript_delta",
            "raw audio_done", "audio_end", "audio_stopped", "raw item_updated", "history_updated",
            "raw turn_ended", "agent_end",
        ]  # fmt: skip
        assert events[-1].output == "hundred"
        assert session.usage.total_tokens == 7
        assert [item.item_id for item in session.history] == ["u1", "item-c1", "i3"]
        # The model did not tell of the call's output; the history knows it all the same.
        made = session.history[1]
        assert isinstance(made, RealtimeToolCallItem)
        assert made.output == "a room in Rome is 100"
        turns = [record for record in session.records if record["type"] == "turn_ended"]
        assert turns[0]["usage"]["total_tokens"] == 7
    model.assert_complete()
    assert (model.close_calls, model.listeners) == (1, ())
    (options,) = model.connect_calls
    settings = options["initial_model_settings"]
    assert settings["instructions"] == "You help."
    assert settings["tools"] == [find_rate]


async def test_a_call_that_the_model_shows_with_its_output_is_complete_in_the_history() -> None:
    model = ScriptedRealtimeModel()
    async with await session_with(model) as session:
        called = RealtimeToolCallItem(
            item_id="t1", call_id="c1", type="function_call", status="in_progress", name="find_rate", arguments="{}"
        )
        await model.emit(RealtimeModelItemUpdatedEvent(called))
        await until(session, "history_added")
        answered = called.model_copy(update={"status": "completed", "output": "100"})
        await model.emit(RealtimeModelItemUpdatedEvent(answered))
        await until(session, "history_updated")
        assert session.history == [answered]


async def test_every_kind_of_event_is_understood() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await until(session, "history_updated")
        heard = UserMessageItem(item_id="u1", content=[InputAudio()])
        for events, shown in (
            ([RealtimeModelItemUpdatedEvent(heard)], ["raw item_updated", "history_added"]),
            (
                [RealtimeModelInputAudioTranscriptionCompletedEvent("u1", "Hello")],
                ["raw input_audio_transcription_completed", "history_updated"],
            ),
            ([RealtimeModelItemDeletedEvent("u1")], ["raw item_deleted", "history_updated"]),
            (
                [RealtimeModelInputAudioTimeoutTriggeredEvent("u1", 0, 9)],
                ["raw input_audio_timeout_triggered", "input_audio_timeout_triggered"],
            ),
            ([RealtimeModelOtherEvent(1), RealtimeModelRawServerEvent({})], ["raw other", "raw raw_server_event"]),
            ([RealtimeModelConnectionStatusEvent("disconnected")], ["raw connection_status"]),
            ([RealtimeModelTurnStartedEvent()], ["raw turn_started", "agent_start"]),
            (
                [RealtimeModelOutputTextDeltaEvent("i1", "Hi", "response_1")],
                ["raw output_text_delta", "transcript_delta"],
            ),
            (
                [RealtimeModelAudioEvent(bytes(10), "response_1", "i2", 0)],
                ["raw audio", "audio_start", "audio"],
            ),
            (
                [RealtimeModelAudioInterruptedEvent("i2", 0)],
                ["raw audio_interrupted", "audio_interrupted", "audio_stopped"],
            ),
            ([RealtimeModelAudioDoneEvent("unheard", 0)], ["raw audio_done", "audio_end"]),
            ([RealtimeModelTurnEndedEvent()], ["raw turn_ended", "agent_end"]),
        ):
            await model.emit(*events)
            assert [label(event) for event in await until(session, shown[-1])] == shown
        assert session.history == []


class Started(RealtimeModelTurnStartedEvent):
    """A program's own, which could carry more; so are the others."""


class Sound(RealtimeModelAudioEvent):
    pass


class Words(RealtimeModelTranscriptDeltaEvent):
    pass


class Called(RealtimeModelToolCallEvent):
    pass


class Failed(RealtimeModelErrorEvent):
    pass


async def test_an_event_of_a_class_of_ones_own_is_what_it_derives_from() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await until(session, "history_updated")
        for event, shown in (
            (Started(response_id="r1"), ["raw turn_started", "agent_start"]),
            (Sound(bytes(10), "r1", "i1", 0), ["raw audio", "audio_start", "audio"]),
            (Words("i1", "Hi", "r1"), ["raw transcript_delta", "transcript_delta"]),
            (Failed({"message": "odd"}), ["raw error", "error"]),
            (Called(name="find_rate", call_id="c1", arguments='{"city":"Rome"}'), ["raw function_call", "tool_start"]),
        ):
            await model.emit(event)
            events = await until(session, shown[-1])
            seen = [one for one in events if not one.type.startswith("history")]
            assert [label(one) for one in seen] == shown
            assert seen[0].data is event
        await until(session, "tool_end")
    assert runs == ["Rome"]


async def test_an_event_of_a_class_of_ones_own_is_held_by_a_guardrail_and_refused_where_it_cannot_be() -> None:
    model = ScriptedRealtimeModel(strict=False)
    guard = OutputGuardrail(lambda *_: GuardrailFunctionOutput(None, tripwire_triggered=True), name="all", mode="hold")
    async with await session_with(model, agent(output_guardrails=[guard])) as session:
        await model.emit(Started(response_id="r1"), Words("i1", untyped(None), "r1"), Words("i1", "hundred", "r1"))
        await model.emit(RealtimeModelTurnEndedEvent(response_id="r1"))
        events = await until(session, "guardrail_tripped")
    assert [event.error.code for event in events if event.type == "error"] == ["invalid_model_event"]
    assert "hundred" not in "".join(repr(event) for event in events if event.type != "guardrail_tripped")


@pytest.mark.parametrize("samples", [bytes, bytearray, memoryview])
async def test_sound_that_is_held_for_a_window_may_be_a_view_of_samples(samples: Any) -> None:
    model = ScriptedRealtimeModel(strict=False)
    guard = OutputGuardrail(lambda *_: GuardrailFunctionOutput(None, False), mode="hold", hold_window_ms=500)
    config: RealtimeRunConfig = {"model_settings": {"output_audio_format": "g711_ulaw"}}
    async with await session_with(model, agent(output_guardrails=[guard]), config) as session:
        audio = RealtimeModelAudioEvent(untyped(samples(bytes(800))), "r1", "i1", 0)
        await model.emit(*turn("r1", RealtimeModelTranscriptDeltaEvent("i1", "Hi.", "r1"), audio))
        events = await until(session, "audio")
    assert bytes(events[-1].audio.data) == bytes(800)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (RealtimeModelAudioEvent(data=bytes(2), response_id=untyped(5), item_id="i", content_index=0), "response_id"),
        (RealtimeModelAudioEvent(data=untyped("AAAA"), response_id="r", item_id="i", content_index=0), "data"),
        (RealtimeModelTranscriptDeltaEvent(item_id="i", delta=untyped(None), response_id="r"), "delta"),
        (RealtimeModelToolCallEvent(name="find_rate", call_id="c", arguments=untyped({})), "arguments"),
        (RealtimeModelItemUpdatedEvent(item=untyped({"item_id": "i"})), "item"),
        (RealtimeModelUsageEvent(usage=untyped(None)), "usage"),
        (RealtimeModelTurnStartedEvent(response_id=untyped([])), "response_id"),
        (untyped("hello"), "str is no event of a model"),
    ],
)
async def test_an_event_that_cannot_be_is_an_error_and_ends_nothing(wrong: Any, named: str) -> None:
    model = ScriptedRealtimeModel()
    async with await session_with(model) as session:
        await model.emit(wrong, *turn("r1", RealtimeModelTranscriptDeltaEvent("i1", "Good morning", "r1")))
        seen = await until(session, "agent_end")
    (error,) = [event.error for event in seen if event.type == "error"]
    assert error.code == "invalid_model_event"
    assert named in error.message
    assert [event.text for event in seen if event.type == "transcript_delta"] == ["Good morning"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "odd", "message": "It is odd."}, "odd", "It is odd."),
        ({"type": "server_error"}, "server_error", "{'type': 'server_error'}"),
        (ValueError("broken"), "model_error", "broken"),
    ],
)
async def test_an_error_of_the_model_is_shown_as_it_is_and_recorded(error: Any, code: str, message: str) -> None:
    model = ScriptedRealtimeModel()
    async with await session_with(model) as session:
        await model.emit(RealtimeModelErrorEvent(error))
        event = (await until(session, "error"))[-1]
        if isinstance(error, dict):
            assert dict(event.error).items() >= error.items()
        else:
            assert event.error is error
        (record,) = [record for record in session.records if record["type"] == "error"]
        assert (record["code"], record["message"], record["source"]) == (code, message, "model")


async def test_what_the_program_says_is_sent_before_it_goes_on() -> None:
    message: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A"}]}
    parts: list[Any] = [{"type": "input_image", "image_url": "data:x"}]
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await session.send_message("plain")
        await session.send_message(message)
        await session.add_image("data:x")
        await session.add_image("data:x", trigger_response=False)
        await session.send_audio(b"\1\2")
        await session.send_audio(b"\3\4", commit=True)
        session.mute()
        await session.send_audio(b"\3\4")
        await session.interrupt()
        sent: Sequence[RealtimeModelSendEvent] = model.sent_events
        assert sent[:3] == (
            RealtimeModelSendUserInput("plain"), RealtimeModelSendUserInput(message),
            RealtimeModelSendUserInput({"type": "message", "role": "user", "content": parts}),
        )  # fmt: skip
        assert isinstance(sent[3], RealtimeModelSendRawMessage)
        assert sent[3].message["type"] == "conversation.item.create"
        assert sent[4:] == (
            RealtimeModelSendAudio(b"\1\2"), RealtimeModelSendAudio(b"\3\4", commit=True), RealtimeModelSendInterrupt(),
        )  # fmt: skip


async def test_a_send_that_the_model_refuses_is_raised_where_it_was_asked_for() -> None:
    model = ScriptedRealtimeModel()
    async with await session_with(model) as session:
        with pytest.raises(UnexpectedRealtimeSend):
            await session.send_message("nobody expects this")
        with pytest.raises(UnexpectedRealtimeSend):
            await session.send_audio(b"\1\2")


async def test_an_output_that_could_not_be_sent_is_sent_when_the_model_asks_again() -> None:
    output = RealtimeModelSendToolOutput(call(), "a room in Rome is 100", start_response=True)
    model = ScriptedRealtimeModel([RealtimeStep(output, error=OSError("busy")), RealtimeStep(output)])
    async with await session_with(model) as session:
        await model.emit(*turn("r1", call()))
        error = (await until(session, "error"))[-1].error
        assert error.code == "send_failed"
        assert "cached output will be retried" in error.message
        await model.emit(call())
        await wait_until(lambda: not model.remaining_steps, description="the output to be sent again")
    assert runs == ["Rome"]


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit])
async def test_a_model_that_cancels_itself_or_would_exit_fails_as_any_other(raised: type[BaseException]) -> None:
    output = RealtimeModelSendToolOutput(call(), "a room in Rome is 100", start_response=True)
    steps = [RealtimeStep(output, error=raised()), RealtimeStep(RealtimeModelSendUserInput)]
    model = ScriptedRealtimeModel(steps, close_error=raised())
    session = await session_with(model)
    await session.enter()
    await model.emit(*turn("r1", call()))
    assert (await until(session, "error"))[-1].error.code == "send_failed"
    await session.send_message("go on")
    model.assert_complete()
    with pytest.raises(RuntimeError, match="close "):
        await session.close()
    refusing = await session_with(ScriptedRealtimeModel(connect_error=raised()))
    with pytest.raises(RuntimeError, match="connect "):
        await refusing.enter()


async def test_outputs_of_one_response_are_answered_together() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await model.emit(*turn("r1", call("c1"), call("c2", arguments='{"city":"Oslo"}')))
        await until(session, "tool_end", 2)
        await wait_until(lambda: len(model.sent_events) == 2, description="both outputs")
    sent = [(event.output, event.start_response) for event in model.sent_events]  # type: ignore[union-attr]
    assert sorted(sent) == [("a room in Oslo is 100", True), ("a room in Rome is 100", False)]


async def test_a_handoff_tells_the_model_its_new_settings_before_the_output() -> None:
    second = agent(name="bookings", instructions="You book.", tools=[])
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model, agent(handoffs=[second])) as session:
        await model.emit(*turn("r1", call(name="transfer_to_bookings", arguments="{}")))
        events = await until(session, "handoff")
        assert events[-1].to_agent is second
        await wait_until(lambda: len(model.sent_events) == 2, description="settings and output")
        update, output = model.sent_events
        assert isinstance(update, RealtimeModelSendSessionUpdate)
        assert update.session_settings["instructions"] == "You book."
        assert update.session_settings["tools"] == []
        assert isinstance(output, RealtimeModelSendToolOutput)
        assert (output.output, output.start_response) == ('{"assistant": "bookings"}', True)
        await session.update_agent(agent(name="third", instructions="You are third."))
        assert session.current_agent.name == "third"
        last = model.sent_events[-1]
        assert isinstance(last, RealtimeModelSendSessionUpdate)
        assert last.session_settings["instructions"] == "You are third."


async def test_a_guardrail_stops_the_model_and_tells_it_off_unless_something_newer_is_said() -> None:
    async def judge(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, "secret" in text)

    async def trip(*after: RealtimeModelEvent) -> list[RealtimeModelSendEvent]:
        gate = asyncio.Event()

        class Slow(ScriptedRealtimeModel):
            async def send_event(self, event: RealtimeModelSendEvent) -> None:
                await super().send_event(event)
                if isinstance(event, RealtimeModelSendInterrupt):
                    await gate.wait()

        model = Slow(strict=False)
        who = agent(output_guardrails=[OutputGuardrail(judge)])
        async with await session_with(model, who, {"guardrails_settings": {"debounce_text_length": 1}}) as session:
            await model.emit(
                RealtimeModelTurnStartedEvent(response_id="r1"),
                RealtimeModelAudioEvent(bytes(10), "r1", "i1", 0),
                RealtimeModelTranscriptDeltaEvent("i1", "a secret", "r1"),
            )
            await until(session, "guardrail_tripped")
            await wait_until(lambda: model.sent_events, description="the interruption")
            await model.emit(*after)
            gate.set()
            await session.send_message("done")
            return list(model.sent_events)

    interrupt = RealtimeModelSendInterrupt(force_response_cancel=True, response_id="r1")
    feedback = RealtimeModelSendUserInput("guardrail triggered: judge")
    done = RealtimeModelSendUserInput("done")
    assert await trip() == [interrupt, feedback, done]
    assert await trip(RealtimeModelTurnStartedEvent(response_id="r2")) == [interrupt, done]


@pytest.mark.parametrize("spoken", [True, False])
async def test_a_trip_after_the_answer_stops_only_its_playback_and_tells_the_model_off(spoken: bool) -> None:
    gate = asyncio.Event()

    async def judge(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        await gate.wait()
        return GuardrailFunctionOutput(None, True)

    said: list[RealtimeModelEvent] = [RealtimeModelOutputTextDeltaEvent("i1", "a secret", "r1")]
    if spoken:
        audio = RealtimeModelAudioEvent(bytes(10), "r1", "i1", 0)
        said = [audio, RealtimeModelTranscriptDeltaEvent("i1", "a secret", "r1")]
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model, agent(output_guardrails=[OutputGuardrail(judge)])) as session:
        await model.emit(*turn("r1", *said))
        await until(session, "agent_end")
        gate.set()
        await until(session, "guardrail_tripped")
        feedback = RealtimeModelSendUserInput("guardrail triggered: judge")
        await wait_until(lambda: feedback in model.sent_events, description="what the model is told")
        stop = [RealtimeModelSendInterrupt(response_id="r1", playback_only=True)] if spoken else []
        assert list(model.sent_events) == [*stop, feedback]


async def test_calls_may_hold_the_model_up() -> None:
    gate = asyncio.Event()

    @function_tool
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model, agent(tools=[wait]), {"async_tool_calls": False}) as session:
        telling = asyncio.create_task(model.emit(call(name="wait", arguments="{}"), RealtimeModelOtherEvent("after")))
        await until(session, "tool_start")
        assert not telling.done()
        gate.set()
        kinds = [label(event) for event in await until(session, "raw other")]
        assert kinds.index("tool_end") < kinds.index("raw other")
        await telling


async def test_a_call_that_holds_the_model_up_was_answered_when_the_model_goes_on() -> None:
    answer = RealtimeStep(lambda sent: isinstance(sent, RealtimeModelSendToolOutput))
    model = ScriptedRealtimeModel([answer, answer], connect_events=[call(call_id="c1")])
    async with await session_with(model, agent(), {"async_tool_calls": False}):
        assert model.remaining_steps == 1, "entering waits for what is called while the model connects"
        await model.emit(call(call_id="c2"))
        model.assert_complete()


async def test_a_model_that_takes_nothing_more_does_not_hold_up_the_end_of_its_session() -> None:
    class Stuck(ScriptedRealtimeModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            await asyncio.Event().wait()

    model = Stuck()
    async with await session_with(model, agent(), {"async_tool_calls": False}) as session:
        telling = asyncio.create_task(model.emit(call()))
        await until(session, "tool_start")
    await telling


@pytest.mark.parametrize("event", [RealtimeModelOtherEvent("ack"), call()], ids=["any event", "a call"])
async def test_a_send_that_waits_for_what_the_model_says_is_not_waited_for_by_that(event: RealtimeModelEvent) -> None:
    class Acknowledged(ScriptedRealtimeModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            await super().send_event(event)
            if isinstance(event, RealtimeModelSendUserInput):
                await acknowledged.wait()

    acknowledged = asyncio.Event()
    model = Acknowledged(strict=False)
    async with await session_with(model, agent(), {"async_tool_calls": False}) as session:
        telling = asyncio.create_task(session.send_message("Hello"))
        await wait_until(lambda: model.sent_events, description="a message on its way")
        async with asyncio.timeout(10):  # the model reads the acknowledgement after this, in the same task
            await model.emit(event)
            acknowledged.set()
            await telling
        outputs = 1 if isinstance(event, RealtimeModelToolCallEvent) else 0
        await wait_until(lambda: len(model.sent_events) == 1 + outputs, description="the output in its turn")


async def test_a_stream_that_ends_is_the_end_and_an_exception_is_raised() -> None:
    model = ScriptedRealtimeModel()
    async with await session_with(model) as session:
        await model.emit(RealtimeModelEndOfStreamEvent(), RealtimeModelOtherEvent("late"))
        assert [label(event) async for event in session] == ["history_updated", "raw end_of_stream"]
        with pytest.raises(UserError, match="has ended"):
            await session.send_message("x")
    failed = ScriptedRealtimeModel()
    async with await session_with(failed) as session:
        error = ZeroDivisionError("odd")
        await failed.emit(RealtimeModelExceptionEvent(error, "in the model"))
        seen: list[str] = []

        async def read() -> None:
            async for event in session:
                seen.append(label(event))  # noqa: PERF401 - what came before the failure counts

        with pytest.raises(ZeroDivisionError, match="odd"):
            await read()
        assert seen == ["history_updated", "raw exception", "error"]


async def test_a_model_that_cannot_connect_is_let_go_of() -> None:
    model = ScriptedRealtimeModel(connect_error=OSError("no route"))
    session = await session_with(model)
    with pytest.raises(OSError, match="no route"):
        await session.enter()
    assert (model.listeners, model.close_calls) == ((), 1)
    await session.close()


async def test_the_failure_to_connect_is_told_even_if_closing_fails_too() -> None:
    model = ScriptedRealtimeModel(connect_error=OSError("no route"), close_error=OSError("not open"))
    session = await session_with(model)
    with pytest.raises(OSError, match="no route"):
        await session.enter()


async def test_a_session_that_is_closed_while_it_is_entered_is_closed_afterwards() -> None:
    connecting, gate = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedRealtimeModel):
        async def connect(self, options: Any) -> None:
            connecting.set()
            await gate.wait()
            await super().connect(options)

    model = Slow()
    session = await session_with(model)
    entering = asyncio.create_task(session.enter())
    await connecting.wait()
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0)
    gate.set()
    await entering
    await closing
    assert (session.closed, model.closed, model.listeners) == (True, True, ())


async def test_nothing_is_heard_of_a_model_before_and_after_the_session() -> None:
    model = ScriptedRealtimeModel()
    session = await session_with(model)
    await session.on_event(RealtimeModelOtherEvent("early"))
    await session.enter()
    await session.close()
    await session.on_event(RealtimeModelOtherEvent("late"))
    assert [label(event) async for event in session] == ["history_updated"]


async def test_a_close_that_fails_may_be_tried_again() -> None:
    class Stubborn(ScriptedRealtimeModel):
        async def close(self) -> None:
            await super().close()
            if self.close_calls == 1:
                raise OSError("not yet")

    model = Stubborn()
    session = await session_with(model)
    await session.enter()
    results = await asyncio.gather(session.close(), session.close(), return_exceptions=True)
    assert [str(result) for result in results] == ["not yet", "not yet"]
    assert not session.closed
    await session.close()
    assert session.closed
    assert model.close_calls == 2


async def test_a_model_that_counts_as_false_is_kept() -> None:
    class Empty(ScriptedRealtimeModel):
        def __len__(self) -> int:
            return 0

    model = Empty()
    async with await session_with(model) as session:
        assert session.model is model


async def test_a_listener_may_speak_while_the_model_is_told_something() -> None:
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(RealtimeModelSendUserInput("first"), [RealtimeModelOtherEvent("now")]),
            RealtimeStep(RealtimeModelSendUserInput("second")),
            RealtimeStep(RealtimeModelSendAudio(b"\1\2")),
        ]
    )
    async with await session_with(model) as session:

        class Speaker:
            async def on_event(self, event: RealtimeModelEvent) -> None:
                await session.send_message("second")
                await session.send_audio(b"\1\2")

        model.add_listener(Speaker())  # type: ignore[arg-type]
        await session.send_message("first")
        await wait_until(lambda: not model.remaining_steps, description="everything to be sent")


async def test_what_waits_for_a_model_is_bounded_and_ends_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    taking = asyncio.Event()

    class Stuck(ScriptedRealtimeModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            taking.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(sending, "MAX_SENDS", 1)
    session = await session_with(Stuck())
    await session.enter()
    first = asyncio.create_task(session.send_message("1"))
    await taking.wait()
    second = asyncio.create_task(session.send_message("2"))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="wait for the model already"):
        await session.send_message("third")
    await session.close()
    for waiting in (first, second):
        with pytest.raises(UserError, match="the session ended"):
            await waiting


async def test_a_model_that_ignores_its_cancelling_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "STOP_S", 0.01)
    gate = asyncio.Event()

    class Deaf(ScriptedRealtimeModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

    session = await session_with(Deaf())
    await session.enter()
    speaking = asyncio.create_task(session.send_message("x"))
    await asyncio.sleep(0.01)
    await session.close()
    with pytest.raises(UserError, match="the session ended"):
        await speaking
    gate.set()


async def test_two_guardrails_of_one_name_both_judge() -> None:
    def asked(word: str) -> OutputGuardrail[Any]:
        return OutputGuardrail(lambda _, __, text: GuardrailFunctionOutput(None, word in text), name="prices")

    model = ScriptedRealtimeModel(strict=False)
    guards = [asked("never said"), asked("hundred")]
    async with await session_with(model, agent(output_guardrails=guards)) as session:
        await model.emit(*turn("r1", RealtimeModelTranscriptDeltaEvent("i1", "hundred", "r1")))
        events = await until(session, "guardrail_tripped")
    assert [result.guardrail for result in events[-1].guardrail_results] == guards[1:]
    assert not [event for event in events if event.type == "error"]


async def test_each_response_of_a_model_is_counted_by_itself_too() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        for tokens in (10, 7):
            used = Usage(requests=1, input_tokens=tokens, total_tokens=tokens)
            await model.emit(*turn(f"r{tokens}", RealtimeModelUsageEvent(used)))
        assert (session.usage.requests, session.usage.input_tokens) == (2, 17)
        assert [entry.input_tokens for entry in session.usage.request_usage_entries] == [10, 7]


@pytest.mark.parametrize(("bad", "heard"), [("never said", True), ("hundred", False)])
async def test_a_guardrail_that_holds_lets_no_raw_event_out_before_its_word(bad: str, heard: bool) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def judge(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        asked.set()
        await answer.wait()
        return GuardrailFunctionOutput(None, bad in text)

    said = AssistantMessageItem(item_id="i1", status="completed", content=[AssistantAudio(transcript="hundred")])
    model = ScriptedRealtimeModel(strict=False)
    guard = OutputGuardrail(judge, name="prices", mode="hold")
    async with await session_with(model, agent(output_guardrails=[guard])) as session:
        await until(session, "history_updated")
        await model.emit(
            *turn(
                "r1",
                RealtimeModelOtherEvent("hundred"),
                RealtimeModelRawServerEvent({"transcript": "hundred"}),
                RealtimeModelItemUpdatedEvent(AssistantMessageItem(item_id="i1", status="in_progress", content=[])),
                RealtimeModelAudioEvent(bytes(100), "r1", "i1", 0),
                RealtimeModelTranscriptDeltaEvent("i1", "hundred", "r1"),
                RealtimeModelItemUpdatedEvent(said),
            )
        )
        await asked.wait()
        answer.set()
        before = await until(session, "history_added")
        assert [label(event) for event in before] == [
            "raw turn_started", "agent_start", "raw item_updated", "history_added",
        ]  # fmt: skip
        after = await until(session, "agent_end")
    labels = [label(event) for event in after]
    if heard:
        assert labels == [
            "raw audio", "audio_start", "audio", "raw transcript_delta", "transcript_delta",
            "raw item_updated", "history_updated", "raw turn_ended", "agent_end",
        ]  # fmt: skip
    else:
        assert "hundred" not in "".join(repr(event) for event in after if event.type != "guardrail_tripped")
        assert not {"raw audio", "audio", "raw transcript_delta", "transcript_delta"} & set(labels)
        assert "guardrail_tripped" in labels


async def test_an_input_guardrail_cannot_hold_back_a_model_that_answers_by_itself() -> None:
    async def judge(_: Any, __: Any, ___: str) -> GuardrailFunctionOutput:
        raise AssertionError("nothing is said in this session")

    holding = agent(input_guardrails=[InputGuardrail(judge, name="secrets", mode="hold")])
    with pytest.raises(UserError, match="input guardrail 'secrets' of mode 'hold' cannot hold back a custom"):
        async with await session_with(ScriptedRealtimeModel(strict=False), holding):
            pass
    async with await session_with(ScriptedRealtimeModel(strict=False), agent()) as session:
        with pytest.raises(UserError, match="'secrets' of mode 'hold'"):
            await session.update_agent(holding)


async def test_what_a_model_says_is_in_the_history_though_its_item_is_told_of_late_without_its_words() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        said = [RealtimeModelTranscriptDeltaEvent("i1", delta, "r1") for delta in ("Hello ", "there")]
        item = AssistantMessageItem(item_id="i1", content=[AssistantAudio()], status="completed")
        await model.emit(*turn("r1", *said, RealtimeModelItemUpdatedEvent(item)))
        events = await until(session, "agent_end")
        await model.emit(*turn("r2", RealtimeModelTranscriptDeltaEvent("i2", "And now?", "r2")))
        await until(session, "agent_end")
        shown = [event.history for event in events if event.type == "history_updated"][-1]
        assert shown == [AssistantMessageItem(
            item_id="i1", content=[AssistantAudio(transcript="Hello there")], status="completed"
        )]  # fmt: skip
        assert [item.content[0].transcript for item in untyped(session.history)] == ["Hello there", "And now?"]


async def test_sound_that_comes_behind_the_end_of_its_turn_is_heard() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await session_with(model) as session:
        await model.emit(*turn("r1", RealtimeModelTranscriptDeltaEvent("i1", "Hello", "r1")))
        await until(session, "agent_end")
        sound = [RealtimeModelAudioEvent(bytes(100), "r1", "i1", 0) for _ in range(2)]
        await model.emit(*sound, RealtimeModelAudioDoneEvent("i1", 0))
        events = await until(session, "audio_stopped")
    assert [label(event) for event in events] == [
        "raw audio", "audio_start", "audio", "raw audio", "audio", "raw audio_done", "audio_end", "audio_stopped",
    ]  # fmt: skip
