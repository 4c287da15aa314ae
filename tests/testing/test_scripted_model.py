"""The scripted model against a listener: steps, strictness, records without secrets, and order."""

import asyncio
from typing import Any

import pytest

from support.model_ear import Ear
from voicebus.agents.models.events import (
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
)
from voicebus.agents.models.model import RealtimeModelListener
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendInterrupt,
    RealtimeModelSendSessionUpdate,
    RealtimeModelSendUserInput,
)
from voicebus.errors import UserError, VoicebusError
from voicebus.testing import (
    RealtimeScriptError,
    RealtimeStep,
    ScriptedRealtimeModel,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
)

STARTED = RealtimeModelTurnStartedEvent(response_id="r1")
ENDED = RealtimeModelTurnEndedEvent(response_id="r1")
HELLO = RealtimeModelSendUserInput("hello")


async def listening(model: ScriptedRealtimeModel, **options: Any) -> Ear:
    ear = Ear()
    model.add_listener(ear)
    await model.connect(options)  # type: ignore[arg-type]
    return ear


async def test_a_send_that_fits_is_answered_with_the_events_of_its_step() -> None:
    model = ScriptedRealtimeModel([RealtimeStep(HELLO, emit=[STARTED, ENDED])])
    ear = await listening(model)
    await model.send_event(RealtimeModelSendUserInput("hello"))
    assert ear.heard == [STARTED, ENDED]
    assert model.remaining_steps == 0
    model.assert_complete()


@pytest.mark.parametrize(
    ("expect", "fits"),
    [
        (HELLO, True),
        (RealtimeModelSendUserInput("bye"), False),
        (RealtimeModelSendUserInput, True),
        (RealtimeModelSendAudio, False),
        (lambda event: event.user_input == "hello", True),
        (lambda event: "", False),
    ],
    ids=["equal value", "other value", "its type", "another type", "function that accepts", "function that refuses"],
)
async def test_values_compare_by_equality_types_by_isinstance_and_functions_by_their_answer(
    expect: Any, fits: bool
) -> None:
    model = ScriptedRealtimeModel([RealtimeStep(expect)])
    await listening(model)
    if fits:
        await model.send_event(HELLO)
        model.assert_complete()
    else:
        with pytest.raises(UnexpectedRealtimeSend) as caught:
            await model.send_event(HELLO)
        assert caught.value.actual == HELLO
        assert caught.value.expected is expect


async def test_a_function_that_asserts_refuses_and_its_reason_is_kept() -> None:
    def polite(event: Any) -> bool:
        assert event.user_input == "please"
        return True

    model = ScriptedRealtimeModel([RealtimeStep(polite)])
    await listening(model)
    with pytest.raises(UnexpectedRealtimeSend, match=r"what polite\(\) accepts") as caught:
        await model.send_event(HELLO)
    assert isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize("strict", [True, False])
async def test_a_function_that_fails_is_told_of_and_no_mere_no(strict: bool) -> None:
    def mistaken(event: Any) -> bool:
        return bool(event.no_such_field)

    model = ScriptedRealtimeModel([RealtimeStep(mistaken)], strict=strict)
    await listening(model)
    with pytest.raises(UnexpectedRealtimeSend) as caught:
        await model.send_event(HELLO)
    assert isinstance(caught.value.__cause__, AttributeError)
    assert (model.remaining_steps, model.sent_events) == (1, ())
    with pytest.raises(UnexpectedRealtimeSend):
        model.assert_complete()


async def test_a_function_that_asserts_only_passes_a_send_by_in_a_script_that_is_not_strict() -> None:
    def polite(event: Any) -> bool:
        assert event.user_input == "please"
        return True

    model = ScriptedRealtimeModel([RealtimeStep(polite)], strict=False)
    await listening(model)
    await model.send_event(HELLO)
    assert (model.remaining_steps, model.sent_events) == (1, (HELLO,))


async def test_a_send_that_cannot_be_kept_takes_no_step() -> None:
    class Unkept:
        def __deepcopy__(self, memo: object) -> Any:
            raise TypeError("there is only one")

    model = ScriptedRealtimeModel([RealtimeStep(RealtimeModelSendUserInput)])
    await listening(model)
    with pytest.raises(TypeError, match="there is only one"):
        await model.send_event(RealtimeModelSendUserInput({"content": Unkept()}))  # type: ignore[arg-type]
    assert (model.remaining_steps, model.sent_events) == (1, ())


async def test_a_send_after_the_script_has_ended_is_unexpected() -> None:
    model = ScriptedRealtimeModel()
    await listening(model)
    with pytest.raises(UnexpectedRealtimeSend, match="nothing more") as caught:
        await model.send_event(HELLO)
    assert caught.value.expected is None
    assert model.sent_events == ()


async def test_an_unexpected_send_whose_error_was_swallowed_still_shows_in_the_end() -> None:
    model = ScriptedRealtimeModel([RealtimeStep(HELLO)])
    await listening(model)
    with pytest.raises(UnexpectedRealtimeSend):
        await model.send_event(RealtimeModelSendInterrupt())
    await model.send_event(HELLO)
    with pytest.raises(UnexpectedRealtimeSend, match="Interrupt"):
        model.assert_complete()


async def test_a_script_that_is_not_strict_only_keeps_what_it_did_not_expect() -> None:
    model = ScriptedRealtimeModel([RealtimeStep(HELLO, emit=[STARTED])], strict=False)
    ear = await listening(model)
    await model.send_event(RealtimeModelSendAudio(b"\0\0"))
    assert (ear.heard, model.remaining_steps) == ([], 1)
    await model.send_event(HELLO)
    assert ear.heard == [STARTED]
    assert model.sent_events == (RealtimeModelSendAudio(b"\0\0"), HELLO)
    model.assert_complete()


async def test_the_error_of_a_step_is_raised_from_the_send_after_its_events() -> None:
    model = ScriptedRealtimeModel([RealtimeStep(HELLO, emit=[STARTED], error=ConnectionError("gone"))])
    ear = await listening(model)
    with pytest.raises(ConnectionError, match="gone"):
        await model.send_event(HELLO)
    assert ear.heard == [STARTED]


async def test_steps_that_were_not_reached_are_named() -> None:
    steps = (RealtimeStep(HELLO), RealtimeStep(RealtimeModelSendAudio))
    model = ScriptedRealtimeModel(steps)
    with pytest.raises(UnconsumedRealtimeSteps, match=r"2 step\(s\).*hello") as caught:
        model.assert_complete()
    assert caught.value.remaining_steps == 2


def test_what_breaks_a_script_fails_an_assertion_and_is_in_the_tree_of_errors() -> None:
    for kind in (UnexpectedRealtimeSend, UnconsumedRealtimeSteps):
        assert issubclass(kind, RealtimeScriptError)
    assert issubclass(RealtimeScriptError, AssertionError)
    assert issubclass(RealtimeScriptError, VoicebusError)


async def test_connecting_emits_its_events_and_keeps_no_secret() -> None:
    model = ScriptedRealtimeModel(connect_events=[STARTED])
    settings: dict[str, Any] = {"voice": "ash", "turn_detection": {"type": "server_vad"}, "tools": [len]}
    ear = await listening(
        model,
        api_key="sk-secret",
        headers={"api-key": "hush"},
        url="wss://me:hush@host:1/v1?key=sk-secret#sk-secret",
        initial_model_settings=settings,
        call_id="rtc_1",
    )
    assert ear.heard == [STARTED]
    assert model.connected
    settings["turn_detection"]["type"] = "semantic_vad"
    await model.close()
    await model.connect({})
    first, second = model.connect_calls
    assert first == {
        "api_key_provided": True,
        "headers_provided": True,
        "url": "wss://host:1/v1",
        "initial_model_settings": {"voice": "ash", "turn_detection": {"type": "server_vad"}, "tools": [len]},
        "call_id": "rtc_1",
    }
    assert second == {"api_key_provided": False, "headers_provided": False}


async def test_what_was_sent_is_kept_as_it_was_then() -> None:
    said: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    model = ScriptedRealtimeModel(strict=False)
    await listening(model)
    await model.send_event(RealtimeModelSendUserInput(said))
    await model.send_event(RealtimeModelSendSessionUpdate({"voice": "ash", "tools": []}))
    said["content"][0]["text"] = "bye"
    message, update = model.sent_events
    assert isinstance(message, RealtimeModelSendUserInput)
    assert message.user_input == {**said, "content": [{"type": "input_text", "text": "hello"}]}
    assert update == RealtimeModelSendSessionUpdate({"voice": "ash", "tools": []})


async def test_a_listener_that_raises_while_it_connects_leaves_it_unconnected() -> None:
    class Broken(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            raise RuntimeError("bug")

    model = ScriptedRealtimeModel(connect_events=[STARTED])
    model.add_listener(Broken())
    with pytest.raises(RuntimeError, match="bug"):
        await model.connect({})
    assert (model.connected, model.closed) == (False, True)


async def test_connecting_and_closing_can_fail() -> None:
    model = ScriptedRealtimeModel(connect_error=OSError("no route"))
    with pytest.raises(OSError, match="no route"):
        await model.connect({})
    assert (model.connected, len(model.connect_calls)) == (False, 1)
    model = ScriptedRealtimeModel(close_error=OSError("stuck"))
    await model.connect({})
    with pytest.raises(OSError, match="stuck"):
        await model.close()
    assert (model.connected, model.closed, model.close_calls) == (False, True, 1)
    await model.close()
    assert model.close_calls == 2


def test_events_of_a_connection_that_fails_are_refused_as_nobody_would_hear_them() -> None:
    with pytest.raises(UserError, match="connect_events"):
        ScriptedRealtimeModel(connect_events=[STARTED], connect_error=OSError("no route"))


async def test_it_is_a_model_like_any_other_when_connected_twice_or_not_at_all() -> None:
    model = ScriptedRealtimeModel()
    with pytest.raises(RealtimeScriptError, match="Not connected"):
        await model.send_event(HELLO)
    with pytest.raises(RealtimeScriptError, match="Not connected"):
        await model.emit(STARTED)
    await model.connect({})
    with pytest.raises(AssertionError, match="Already connected"):
        await model.connect({})
    await model.close()
    await model.close()
    assert (model.connected, model.closed, model.close_calls) == (False, True, 2)
    await model.connect({})
    assert (model.connected, model.closed) == (True, False)


async def test_a_listener_is_told_once_and_not_after_it_left() -> None:
    model = ScriptedRealtimeModel()
    ear = await listening(model)
    model.add_listener(ear)
    assert model.listeners == (ear,)
    await model.emit(STARTED)
    model.remove_listener(ear)
    model.remove_listener(ear)
    await model.emit(ENDED)
    assert ear.heard == [STARTED]
    assert not model.listeners


async def test_a_listener_that_raises_hides_nothing_from_the_others() -> None:
    class Broken(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            raise RuntimeError("bug")

    model = ScriptedRealtimeModel()
    model.add_listener(Broken())
    ear = await listening(model)
    with pytest.raises(RuntimeError, match="bug"):
        await model.emit(STARTED)
    assert ear.heard == [STARTED]
    with pytest.raises(ExceptionGroup):
        await model.emit(STARTED, ENDED)
    assert ear.heard == [STARTED, STARTED, ENDED]


async def test_nothing_is_heard_of_a_model_that_a_listener_has_closed_until_it_is_connected_again() -> None:
    model = ScriptedRealtimeModel()

    class Closer(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            await model.close()
            with pytest.raises(AssertionError, match="Already connected"):
                await model.connect({})

    closer = Closer()
    model.add_listener(closer)
    ear = await listening(model)
    await model.emit(STARTED, ENDED)
    assert (ear.heard, model.closed) == ([], True)
    model.remove_listener(closer)
    await model.connect({})
    await model.emit(ENDED)
    assert ear.heard == [ENDED]


async def test_answers_to_a_send_from_within_a_listener_come_after_the_events_under_way() -> None:
    failed = RealtimeModelErrorEvent({"message": "no"})
    model = ScriptedRealtimeModel([RealtimeStep(HELLO, emit=[failed])])

    class Sender(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            if event == STARTED:
                await model.send_event(HELLO)

    model.add_listener(Sender())
    ear = await listening(model)
    await model.emit(STARTED, ENDED)
    assert ear.heard == [STARTED, ENDED, failed]


async def test_a_cancelled_delivery_does_not_block_later_ones() -> None:
    class Stuck(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            await asyncio.Event().wait()

    model = ScriptedRealtimeModel()
    await model.connect({})
    stuck = Stuck()
    model.add_listener(stuck)
    task = asyncio.create_task(model.emit(STARTED), name="emit")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    model.remove_listener(stuck)
    ear = Ear()
    model.add_listener(ear)
    await model.emit(ENDED)
    assert ear.heard == [ENDED]


async def test_a_conditional_send_is_sent_only_if_its_condition_holds() -> None:
    model = ScriptedRealtimeModel([RealtimeStep(HELLO)])
    await listening(model)
    assert not await model.send_event_if(HELLO, lambda: False)
    assert not model.sent_events
    assert await model.send_event_if(HELLO, lambda: True)
    assert model.sent_events == (HELLO,)
