"""The test helpers on real sessions: the scripted model and server behind a `RealtimeSession`, and its assertions."""

from dataclasses import replace
from typing import Any

import pytest

from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    RealtimeSession,
    function_tool,
)
from voicebus.agents.items import AssistantMessageItem, AssistantText
from voicebus.agents.models.events import (
    RealtimeModelItemUpdatedEvent,
    RealtimeModelToolCallEvent,
    RealtimeModelTurnEndedEvent,
    RealtimeModelTurnStartedEvent,
)
from voicebus.agents.models.sends import RealtimeModelSendToolOutput, RealtimeModelSendUserInput
from voicebus.testing import (
    ExpectationFailed,
    RealtimeStep,
    ScriptedRealtimeModel,
    ScriptedRealtimeServer,
    ServerStep,
    UnexpectedRealtimeSend,
    audio_turn,
    barge_in,
    function_call,
    mock_tools,
    open_turn,
    recorded,
    text_turn,
)


@function_tool
def get_weather(city: str) -> str:
    """Get the weather."""
    return f"sunny in {city}"


@pytest.fixture
def agent() -> RealtimeAgent[Any]:
    return RealtimeAgent("desk", instructions="Help.", tools=[replace(get_weather)])


async def over(server: ScriptedRealtimeServer, agent: RealtimeAgent[Any], **settings: Any) -> RealtimeSession:
    options: Any = {"url": server.url, "api_key": "test", "initial_model_settings": settings}
    return await RealtimeRunner(agent).run(model_config=options)


async def test_a_scripted_model_answers_a_session_and_hears_of_its_tools(agent: RealtimeAgent[Any]) -> None:
    said = AssistantMessageItem(item_id="i1", status="completed", content=[AssistantText(text="It is sunny.")])
    call = RealtimeModelToolCallEvent("get_weather", "c1", '{"city": "Paris"}', id="f1")
    model = ScriptedRealtimeModel(
        [
            RealtimeStep(
                lambda event: event == RealtimeModelSendUserInput("The weather?"),
                emit=[
                    RealtimeModelTurnStartedEvent(response_id="r1"),
                    call,
                    RealtimeModelTurnEndedEvent(response_id="r1"),
                ],
            ),
            RealtimeStep(
                RealtimeModelSendToolOutput,
                emit=[
                    RealtimeModelTurnStartedEvent(response_id="r2"),
                    RealtimeModelItemUpdatedEvent(said),
                    RealtimeModelTurnEndedEvent(response_id="r2"),
                ],
            ),
        ]
    )
    session = await RealtimeRunner(agent, model=model).run(model_config={"api_key": "sk-secret"})
    async with session, recorded(session) as events:
        assert model.connected
        assert model.listeners
        await session.send_message("The weather?")
        await events.expect_tool("get_weather").with_arguments(city="Paris").with_output("sunny in Paris")
        await events.expect_text("sunny")
    sent = model.sent_events[-1]
    assert isinstance(sent, RealtimeModelSendToolOutput)
    assert (sent.output, sent.start_response) == ("sunny in Paris", True)
    assert model.connect_calls[0]["initial_model_settings"]["instructions"] == "Help."
    assert "sk-secret" not in repr(model.connect_calls)
    assert (model.closed, model.close_calls, model.listeners) == (True, 1, ())
    model.assert_complete()


async def test_a_send_that_the_script_does_not_know_fails_where_it_was_made(agent: RealtimeAgent[Any]) -> None:
    model = ScriptedRealtimeModel()
    session = await RealtimeRunner(agent, model=model).run()
    async with session:
        with pytest.raises(UnexpectedRealtimeSend, match="hello"):
            await session.send_message("hello")
    with pytest.raises(UnexpectedRealtimeSend, match="hello"):
        model.assert_complete()


async def test_a_scripted_server_answers_a_session(agent: RealtimeAgent[Any]) -> None:
    steps = [
        ServerStep("response.create", function_call("get_weather", {"city": "Paris"})),
        ServerStep("response.create", text_turn("It is sunny in Paris.")),
    ]
    async with ScriptedRealtimeServer(steps) as server:
        session = await over(server, agent, output_modalities=["text"])
        async with session, recorded(session) as events:
            with mock_tools(session, {"get_weather": lambda city: f"fine in {city}"}) as tools:
                await session.send_message("The weather?")
                await events.expect_order(
                    events.expect_tool("get_weather").with_output("fine in Paris"),
                    events.expect_text(equal_to="It is sunny in Paris."),
                )
            assert [call.arguments for call in tools.calls] == [{"city": "Paris"}]
        told = [event["item"] for event in server.received("conversation.item.create")]
        assert told[-1]["output"] == "fine in Paris"
        assert server.received("session.update")[0]["session"]["instructions"] == "Help."
        server.assert_complete()


async def test_a_barge_in_is_an_interruption_and_a_new_turn(agent: RealtimeAgent[Any]) -> None:
    heard = {"type": "input_audio_buffer.append"}
    steps = [
        ServerStep("response.create", open_turn("Well, in Paris the weather")),
        ServerStep(heard, [barge_in("Stop!"), text_turn("I am quiet.")]),
    ]
    async with ScriptedRealtimeServer(steps) as server:
        session = await over(server, agent)
        async with session, recorded(session) as events:
            await session.send_message("The weather?")
            await events.expect_audio()
            await session.send_audio(bytes(4800))
            await events.expect_order(events.expect_interruption(), events.expect_text("I am quiet."))
            await events.expect_text("Stop!", role="user")
        assert server.connections[0].audio == bytes(4800)


async def test_a_guardrail_that_trips_is_told_by_its_name(agent: RealtimeAgent[Any]) -> None:
    def no_prices(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput({"found": "euro"}, tripwire_triggered="euro" in text)

    guarded = agent.clone(output_guardrails=[OutputGuardrail(no_prices)])
    steps = [
        ServerStep("response.create", audio_turn("It costs 5 euros.")),
        ServerStep("response.create", text_turn(".")),
    ]
    async with ScriptedRealtimeServer(steps) as server:
        session = await over(server, guarded)
        async with session, recorded(session) as events:
            await session.send_message("How much?")
            await events.expect_guardrail("no_prices")
            await events.expect_no(events.expect_guardrail()).within(0.05)


async def test_a_failure_shows_what_the_session_did_instead(agent: RealtimeAgent[Any]) -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("No idea."))]) as server:
        session = await over(server, agent, output_modalities=["text"])
        async with session, recorded(session) as events:
            await session.send_message("The weather?")
            await events.expect_text("idea")
            with pytest.raises(ExpectationFailed) as caught:
                await events.expect_tool("get_weather").within(0.05)
    message = str(caught.value)
    assert "expected a call of get_weather; it did not come within 0.05 s" in message
    assert "user: 'The weather?'" in message
    assert "assistant: 'No idea.'" in message


async def test_two_recordings_of_one_session_see_the_same(agent: RealtimeAgent[Any]) -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("Hello."))]) as server:
        session = await over(server, agent, output_modalities=["text"])
        async with session, recorded(session) as one, recorded(session) as other:
            await session.send_message("hi")
            await one.expect_text("Hello.")
            await other.expect_text("Hello.")
