"""Tools that the model's provider reaches itself: what callers see of them, and that their calls wait for leave."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.server import ServerConnection, serve

from services.gateway.clients import native, realtime
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus import HostedMCPTool, RealtimeAgent
from voicebus_services.gateway.wiring import Gateway

archive = RealtimeAgent(
    name="archive",
    instructions="You look things up.",
    tools=[HostedMCPTool({"server_label": "files", "server_url": "https://files.example/mcp", "authorization": "tok"})],
)


class Provider:
    """A model whose hosted server asks for leave before it runs its tool, then answers."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[dict[str, Any]] = []

    async def serve(self, socket: ServerConnection) -> None:
        responses = 0

        async def say(kind: str, **fields: Any) -> None:
            await socket.send(json.dumps({"type": kind, **fields}))

        async def item(response: str, index: int, item: dict[str, Any]) -> None:
            await say("response.output_item.added", response_id=response, output_index=index, item=item)
            await say("conversation.item.added", item=item, previous_item_id=None)
            await say("response.output_item.done", response_id=response, output_index=index, item=item)

        async for frame in socket:
            event = json.loads(frame)
            self.heard.append(event)
            if event["type"] == "session.update":
                await say("session.updated", session=event["session"])
            elif event["type"] == "conversation.item.create":
                await say("conversation.item.added", item=event["item"], previous_item_id=None)
            elif event["type"] == "response.create":
                responses += 1
                name = f"resp_{responses}"
                metadata = event.get("response", {}).get("metadata")
                response = {"id": name, "status": "in_progress", "output": [], "metadata": metadata}
                await say("response.created", response=response)
                if responses == 1:
                    asks = {
                        "id": "mcpr_1", "type": "mcp_approval_request", "server_label": "files", "name": "find",
                        "arguments": "{}",
                    }  # fmt: skip
                    await item(name, 0, asks)
                    output: list[Any] = [asks]
                else:
                    called = {
                        "id": "mcp_1", "type": "mcp_call", "server_label": "files", "name": "find", "arguments": "{}",
                        "output": "a page", "approval_request_id": "mcpr_1",
                    }  # fmt: skip
                    await item(name, 0, called)
                    await say("response.mcp_call.completed", item_id="mcp_1", output_index=0)
                    words = {
                        "id": "item_1", "type": "message", "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "Found it."}],
                    }  # fmt: skip
                    await item(name, 1, words)
                    output = [called, words]
                await say("response.done", response={**response, "status": "completed", "output": output})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    model = Provider()
    async with serve(model.serve, "127.0.0.1", 0) as server:
        model.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/realtime"
        yield model


@pytest.fixture
async def gateway(gateways: Gateways, provider: Provider) -> AsyncIterator[Gateway]:
    async with gateways("services.gateway.test_hosted", model_url=provider.url) as running_one:
        yield running_one


def given_leave(provider: Provider) -> list[dict[str, Any]]:
    items = [event["item"] for event in provider.heard if event["type"] == "conversation.item.create"]
    return [item for item in items if item["type"] == "mcp_approval_response"]


@pytest.mark.parametrize("leave", [True, False])
async def test_a_hosted_servers_call_waits_for_the_client(gateway: Gateway, provider: Provider, leave: bool) -> None:
    async with native(gateway) as client:
        await client.send("send_message", text="Where is it?")
        required = await client.until("tool_approval_required")
        assert (required["tool"], required["call_id"]) == ("files.find", "mcpr_1")
        if leave:
            await client.send("approve", call_id="mcpr_1", id="w")
        else:
            await client.send("reject", call_id="mcpr_1", message="Not that one.", id="w")
        await client.until("ack", id="w")
        await wait_until(lambda: given_leave(provider), description="the answer to the hosted server")
        if leave:
            await client.until("mcp_tool_call_completed")
    (answer,) = given_leave(provider)
    assert answer["approval_request_id"] == "mcpr_1"
    assert answer["approve"] is leave
    assert answer.get("reason") == (None if leave else "Not that one.")


async def test_a_client_of_the_openai_protocol_sees_nothing_of_hosted_tools(
    gateway: Gateway, provider: Provider
) -> None:
    async with realtime(gateway) as client:
        created = await client.until("session.created")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where is it?"}]}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        await client.until("response.created")
        (held,) = gateway.sessions
        driver = held.face.driver
        assert driver is not None
        await wait_until(lambda: driver._engine.awaits_decision("mcpr_1"), description="the call that waits")
        assert "response.done" not in client.types
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as http:
            answer = await http.post(f"/v1/sessions/{held.id}/tool-calls/mcpr_1/approve")
        assert answer.status_code == 202
        done = await client.until("response.done")
    assert created["session"]["tools"] == []
    assert [item["id"] for item in done["response"]["output"]] == ["item_1"]
    text = json.dumps(client.seen)
    assert not [hidden for hidden in ("mcp", "files", "tok", "a page") if hidden in text]
    assert client.types.count("response.created") == 1
