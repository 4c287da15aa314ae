"""Where we differ on purpose from what programs know: what the other tests of this folder do not show yet."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from support.stages import IN_PROCESS, Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent, function_tool
from voicebus.testing import Drop, ScriptedRealtimeServer, ServerStep, function_call, text_turn

CREATE: Final = "response.create"


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


async def test_a_create_that_met_the_servers_own_response_goes_out_again(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server:

        def in_the_way(conversation: Any) -> Iterator[dict[str, Any]]:
            conversation.metadata = None  # the server's own response is not an answer to our create
            yield from conversation.begin_response()
            message = "Conversation already has an active response"
            cause = server.received(CREATE)[-1]
            yield conversation.error("conversation_already_has_active_response", message, cause=cause)
            yield from conversation.begin_message("text")
            yield from conversation.say("By myself.")
            yield from conversation.end_response()

        server._scripts = ((ServerStep(CREATE, in_the_way), ServerStep(CREATE, text_turn("As asked."))),)
        async with stage.conversation(RealtimeAgent(name="clerk"), server) as talk:
            await talk.say("hello")
            await talk.until("agent_end")
            await talk.until("agent_end")
        server.assert_complete()
    assert len(server.received(CREATE)) == 2


async def test_every_event_has_a_place_in_the_record_and_a_tool_its_call(stage: Stage) -> None:
    script = [
        ServerStep(CREATE, function_call("weather", {"city": "Rome"}, call_id="c1")),
        ServerStep(CREATE, text_turn("Sunny.")),
    ]
    async with (
        ScriptedRealtimeServer(script) as server,
        stage.conversation(RealtimeAgent(name="clerk", tools=[weather]), server) as talk,
    ):
        await talk.say("the weather?")
        started = await talk.until("tool_start")
        ended = await talk.until("tool_end")
        await talk.until("agent_end")
        places = [event["seq"] for event in talk.events]
    assert places == sorted(places)
    assert places[-1] > 0
    assert started["call_id"] == ended["call_id"] == "c1"
    assert ended["outcome"] == "ok"
    lasted = ended["duration_ms"] if stage.name == IN_PROCESS else ended["ended_ms"] - ended["started_ms"]
    assert lasted >= 0


async def test_a_handoffs_turn_is_the_old_agents_and_the_next_one_the_new_agents(stage: Stage) -> None:
    script = [
        ServerStep(CREATE, function_call("transfer_to_billing", {}, call_id="h1")),
        ServerStep(CREATE, text_turn("Billing here.")),
    ]
    agent = RealtimeAgent[Any](name="clerk", handoffs=[RealtimeAgent(name="billing")])
    async with ScriptedRealtimeServer(script) as server, stage.conversation(agent, server) as talk:
        await talk.say("a bill, please")
        await talk.until("agent_end", agent="billing")
    assert [event["agent"] for event in talk.of("agent_end")] == ["clerk", "billing"]


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011])
async def test_a_lost_model_socket_is_replaced_and_the_conversation_goes_on(stage: Stage, code: int) -> None:
    first = [ServerStep(CREATE, [text_turn("Good day."), Drop(code)])]
    second = [ServerStep(CREATE, text_turn("Good night."))]
    async with (
        ScriptedRealtimeServer(first, second) as server,
        stage.conversation(RealtimeAgent(name="clerk"), server) as talk,
    ):
        await talk.say("hello")
        await talk.until("model_reconnected")
        await talk.say("bye")
        await wait_until(lambda: len(talk.of("agent_end")) == 2, description="both answers")
        told = [event["item"] for event in server.connections[1].received("conversation.item.create")]
        texts = [part["text"] for item in told for part in item["content"]]
        assert not talk.ended.is_set()
        assert talk.of("error") == []
    assert texts == ["hello", "Good day.", "bye"]
    assert [(event["cause"], event["attempt"]) for event in talk.of("model_reconnecting")] == [("dropped", 1)]
