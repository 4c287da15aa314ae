"""A served program's hooks are told what happens in its sessions, whichever face the client has."""

from typing import Any

import pytest

from services.gateway.clients import native, realtime
from support.hooks import RunHooks, Told
from voicebus import RealtimeAgentHooks, RealtimeRunHooks
from voicebus.contracts.tools import ToolCall
from voicebus_services.gateway.wiring import Gateway


class Counting(RealtimeRunHooks[Any]):
    """The tokens that were counted so far at the end of each turn."""

    def __init__(self) -> None:
        self.totals: list[tuple[int, int]] = []

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self.totals.append((context.usage.requests, context.usage.total_tokens))


class Own(RealtimeAgentHooks[Any]):
    def __init__(self) -> None:
        self.told: Told = []

    async def on_handoff(self, context: Any, agent: Any, source: Any) -> None:
        self.told.append((agent.name, source.name))


@pytest.fixture
def hooks(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> RunHooks:
    run = RunHooks()
    targets = gateway.sessions._targets
    for config in targets.configs.values():
        monkeypatch.setitem(config, "hooks", run)
    return run


@pytest.mark.parametrize("face", ["native", "openai"])
async def test_hooks_hear_of_turns_and_tools_in_their_order(
    gateway: Gateway, tool_worker: list[ToolCall], hooks: RunHooks, face: str
) -> None:
    text = '[[call: get_weather {"city": "Paris"}]][[next]][[say: Sunny]]'
    if face == "native":
        async with native(gateway) as client:
            await client.send("send_message", text=text)
            await client.until("item_recorded", role="assistant")
            await client.send("end")
            await client.closed()
    else:
        async with realtime(gateway) as client:
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            await client.send("conversation.item.create", item=item)
            await client.send("response.create")
            await client.until("response.done")
    await gateway.sessions.drain(5)
    output = 'get_weather got {"city": "Paris"}'
    assert [entry for entry in hooks.told if entry[0].startswith("tool")] == [
        ("tool", "reception", "get_weather"),
        ("tool end", "reception", "get_weather", output),
    ]
    turns = [entry for entry in hooks.told if not entry[0].startswith("tool")]
    assert turns[0] == ("start", "reception")
    assert ("end", "reception", "Sunny") in turns
    assert [kind for kind, *_ in turns] == ["start", "end", "start", "end"]


async def test_hooks_of_the_run_and_of_the_agent_hear_of_a_handoff(
    gateway: Gateway, hooks: RunHooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Own()
    monkeypatch.setattr(gateway.sessions._targets.agents["reception"], "hooks", own)
    async with native(gateway, "?agent=porter") as client:
        await client.send("send_message", text="[[call: transfer_to_reception {}]][[next]][[say: Welcome]]")
        await client.until("item_recorded", role="assistant")
        await client.send("end")
        await client.closed()
    await gateway.sessions.drain(5)
    assert ("handoff", "porter", "reception") in hooks.told
    assert own.told == [("reception", "porter")]
    assert hooks.told[-1] == ("end", "reception", "Welcome")


async def test_hooks_find_what_the_model_used_counted(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    for config in gateway.sessions._targets.configs.values():
        monkeypatch.setitem(config, "hooks", counting)
    async with native(gateway) as client:
        for text in ("[[say: one]]", "[[say: two]]"):
            await client.send("send_message", text=text)
            await client.until("turn_ended")
        await client.send("end")
        await client.closed()
    await gateway.sessions.drain(5)
    turns = client.events("turn_ended")
    first, second = (turn["usage"]["total_tokens"] for turn in turns)
    assert counting.totals == [(1, first), (2, first + second)]
