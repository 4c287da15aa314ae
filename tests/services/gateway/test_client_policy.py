"""What an agent's `ClientPolicy` means to a client of `/v1/realtime`, through a gateway and to the model behind it."""

from collections.abc import AsyncIterator

import pytest

from services.gateway.clients import realtime
from services.gateway.conftest import Gateways
from services.gateway.test_realtime_contract import OPEN_MAP, Talk, words
from support.recording_proxy import recording_proxy
from support.simulator import SimulatorHandle
from voicebus import ClientPolicy, RealtimeAgent, function_tool


@function_tool(queue="policy")
def count_money() -> str:
    """Count what is in the till."""
    return "12"


@function_tool(queue="policy")
def open_till() -> str:
    """Open it."""
    return "open"


cashier = RealtimeAgent(
    name="cashier",
    instructions="You sit at the till.",
    client_policy=ClientPolicy(refuse={"voice"}, ignore={"instructions"}),
)
trainee = RealtimeAgent(
    name="trainee",
    instructions="You learn.",
    tools=[count_money, open_till],
    handoffs=[cashier],
    client_policy=ClientPolicy(
        allow={"instructions", "model", "server_tools", "reasoning"}, show={"instructions", "tools"}
    ),
)
TARGET = "services.gateway.test_client_policy:trainee"


@pytest.fixture
async def talk(gateways: Gateways, simulator: SimulatorHandle) -> AsyncIterator[Talk]:
    async with recording_proxy(simulator.url) as recording, gateways(TARGET, model_url=recording.url) as gateway:
        async with realtime(gateway, "?model=gpt-realtime-mini") as client:
            yield Talk(client, recording)


async def test_a_client_sees_and_changes_what_the_agent_lets_it(talk: Talk) -> None:
    shown = (await talk.until("session.created"))["session"]
    assert (shown["model"], shown["instructions"]) == ("trainee", "You learn.")
    assert [tool["name"] for tool in shown["tools"]] == ["count_money", "open_till", "transfer_to_cashier"]
    assert talk.heard("session.created")[0]["session"]["model"] == "gpt-realtime-mini"

    changed = await talk.update(
        instructions="Speak like a pirate.", tools=[shown["tools"][0], OPEN_MAP], output_modalities=["text"]
    )
    assert changed["instructions"] == "Speak like a pirate."
    assert [tool["name"] for tool in changed["tools"]] == ["count_money", "open_map"]
    told = talk.told("session.update")[-1]["session"]
    assert told["instructions"] == "Speak like a pirate."
    assert [tool["name"] for tool in told["tools"]] == ["count_money", "open_map"]

    answer = await talk.answer("[[call: open_till {}]] [[next]] [[say: {outputs}]]")
    assert words(answer) == "Tool open_till not found", "a tool that the client switched off does not run"

    await talk.update(tools=shown["tools"])
    told = talk.told("session.update")[-1]["session"]
    assert [tool["name"] for tool in told["tools"]] == ["count_money", "open_till", "transfer_to_cashier"]


async def test_what_was_allowed_with_one_agent_ends_with_the_next(talk: Talk) -> None:
    await talk.until("session.created")
    await talk.update(
        instructions="Speak like a pirate.",
        output_modalities=["text"],
        audio={"output": {"voice": "cedar"}, "input": {"turn_detection": None}},
    )
    await talk.answer("[[call: transfer_to_cashier {}]] [[next]] [[say: Hello.]]")
    told = talk.told("session.update")[-1]["session"]
    assert told["instructions"] == "You sit at the till."
    assert told["output_modalities"] == ["text"], "what the new agent lets a client change stays changed"
    assert told["audio"]["output"].get("voice") != "cedar"
    session = {"type": "realtime", "audio": {"output": {"voice": "ash"}}}
    await talk.send("session.update", session=session, event_id="e")
    assert await talk.refusal() == ("forbidden_parameter", "session.audio.output.voice", "e")
    shown = await talk.update(tool_choice="auto")
    assert (shown["model"], shown["instructions"], shown["tools"]) == ("cashier", "", [])

    # A client with an agent of its own, as many frameworks have, sends that one's instructions wherever it can.
    shown = await talk.update(instructions="Be a pirate.", tools=[OPEN_MAP])
    assert (shown["instructions"], [tool["name"] for tool in shown["tools"]]) == ("", ["open_map"])
    answer = await talk.answer("[[say: As you like.]]", instructions="Be a pirate.")
    assert words(answer) == "As you like."
    told = talk.told("session.update")[-1]["session"]
    assert told.get("instructions") in (None, "You sit at the till.")
    assert "instructions" not in talk.told("response.create")[-1].get("response", {})
