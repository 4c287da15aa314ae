"""Tests as their users write them with `ScriptedRealtimeModel` (parity 128): only the import line is another.

In process only: the scripted model is an object in the place of a program's model.
"""

from typing import Any

import pytest

from voicebus import (
    AssistantMessageItem,
    AssistantText,
    InputText,
    RealtimeAgent,
    RealtimeModelAudioEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelSendAudio,
    RealtimeModelSendInterrupt,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
    RealtimeModelToolCallEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
    RealtimeRunner,
    UserMessageItem,
    function_tool,
)
from voicebus.testing import (
    RealtimeScriptError,
    RealtimeStep,
    ScriptedRealtimeModel,
    UnconsumedRealtimeSteps,
    UnexpectedRealtimeSend,
)


@function_tool
async def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"The weather in {city} is sunny."


async def until(session: Any, kind: str, times: int = 1) -> list[Any]:
    events = []
    async for event in session:
        events.append(event)
        times -= event.type == kind
        if times == 0:
            break
    return events


async def test_a_message_is_answered() -> None:
    reply = AssistantMessageItem(item_id="m1", status="completed", content=[AssistantText(text="Hello!")])
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(
                RealtimeModelSendUserInput(user_input="hi"),
                emit=[
                    RealtimeModelTurnStartedEvent(),
                    RealtimeModelItemUpdatedEvent(item=reply),
                    RealtimeModelTurnEndedEvent(),
                ],
            )
        ]
    )
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run() as session:
        await session.send_message("hi")
        events = await until(session, "agent_end")
    assert [event.type for event in events if event.type != "raw_model_event"] == [
        "history_updated", "agent_start", "history_added", "agent_end",
    ]  # fmt: skip
    assert events[-1].agent.name == "assistant"
    model.assert_complete()


async def test_a_tool_is_called_and_its_output_sent() -> None:
    call = RealtimeModelToolCallEvent(name="get_weather", call_id="call_1", arguments='{"city": "Oslo"}')
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(RealtimeModelSendUserInput(user_input="weather?"), emit=[call]),
            RealtimeStep(
                RealtimeModelSendToolOutput(
                    tool_call=call, output="The weather in Oslo is sunny.", start_response=True
                ),
                emit=[RealtimeModelTurnStartedEvent(), RealtimeModelTurnEndedEvent()],
            ),
        ]
    )
    agent = RealtimeAgent(name="assistant", tools=[get_weather])
    async with await RealtimeRunner(agent, model=model).run() as session:
        await session.send_message("weather?")
        events = await until(session, "agent_end")
    tools = [(event.type, event.tool.name) for event in events if event.type in ("tool_start", "tool_end")]
    assert tools == [("tool_start", "get_weather"), ("tool_end", "get_weather")]
    model.assert_complete()


async def test_audio_and_interruptions_are_sent_as_values() -> None:
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(RealtimeModelSendAudio(audio=b"\x00\x01", commit=False)),
            RealtimeStep(RealtimeModelSendAudio(audio=b"\x02\x03", commit=True)),
            RealtimeStep(RealtimeModelSendInterrupt(), emit=[]),
        ]
    )
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run() as session:
        await session.send_audio(b"\x00\x01")
        await session.send_audio(b"\x02\x03", commit=True)
        await session.interrupt()
    assert model.sent_events == (
        RealtimeModelSendAudio(audio=b"\x00\x01", commit=False),
        RealtimeModelSendAudio(audio=b"\x02\x03", commit=True),
        RealtimeModelSendInterrupt(),
    )
    model.assert_complete()


async def test_history_has_what_the_user_said_once_the_model_tells_of_it() -> None:
    model = ScriptedRealtimeModel(strict=False)
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run() as session:
        await session.send_message("look")
        await until(session, "history_updated")
        assert session.history == []
        said = UserMessageItem(item_id="u1", content=[InputText(text="look")])
        await model.emit(RealtimeModelItemUpdatedEvent(item=said))
        events = await until(session, "history_added")
        assert session.history == [said]
    assert [event.type for event in events] == ["raw_model_event", "history_added"]


async def test_audio_of_the_model_is_an_event() -> None:
    audio = RealtimeModelAudioEvent(data=b"\x00\x01", response_id="r1", item_id="i1", content_index=0)
    model = ScriptedRealtimeModel()
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run() as session:
        await model.emit(audio)
        events = await until(session, "audio")
    assert events[-1].audio == audio


async def test_what_does_not_fit_the_script_is_raised_and_what_remains_is_named() -> None:
    step = RealtimeStep(RealtimeModelSendUserInput(user_input="hi"))
    model = ScriptedRealtimeModel([step])
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run() as session:
        with pytest.raises(UnexpectedRealtimeSend) as unexpected:
            await session.send_message("bye")
    assert unexpected.value.actual == RealtimeModelSendUserInput(user_input="bye")
    assert unexpected.value.expected == RealtimeModelSendUserInput(user_input="hi")
    assert model.remaining_steps == 1
    with pytest.raises(UnconsumedRealtimeSteps) as unconsumed:
        ScriptedRealtimeModel([step]).assert_complete()
    assert unconsumed.value.remaining_steps == 1
    assert issubclass(UnexpectedRealtimeSend, RealtimeScriptError)
    assert issubclass(UnconsumedRealtimeSteps, RealtimeScriptError)


async def test_connecting_is_recorded_without_secrets_and_may_fail() -> None:
    model = ScriptedRealtimeModel()
    options: Any = {"api_key": "sk-secret", "headers": {"api-key": "hidden"}}
    async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=model).run(model_config=options) as session:
        assert model.connected
        assert session in model.listeners
    assert model.closed
    assert model.close_calls == 1
    (call,) = model.connect_calls
    assert (call["api_key_provided"], call["headers_provided"]) == (True, True)
    assert "sk-secret" not in repr(call)
    assert "hidden" not in repr(call)
    broken = ScriptedRealtimeModel(connect_error=ConnectionError("no route"))
    with pytest.raises(ConnectionError, match="no route"):
        async with await RealtimeRunner(RealtimeAgent(name="assistant"), model=broken).run():
            raise AssertionError("unreachable: connecting failed")
    assert broken.listeners == ()
