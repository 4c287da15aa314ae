"""A gateway's native face, handled like a session: against a socket that plays the gateway, and against a real one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from support.simulator import running_simulator
from voicebus.agents.targets import load_targets
from voicebus.agents.tools.worker import ToolWorker
from voicebus.errors import RemoteError, ScenarioError, UserError
from voicebus.testing import GatewayCall, Scenario, recorded, run_scenario_at
from voicebus_services.gateway.wiring import running_gateway
from voicebus_services.settings import GatewaySettings


class Gateway:
    """Answers `send_message` with its text in capitals, `end` with the end; keeps what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.heard: list[Any] = []

    async def serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.path, self.headers = socket.request.path, dict(socket.request.headers)
        await self._say(socket, "session_started", agent="desk")
        async for frame in socket:
            self.heard.append(frame if isinstance(frame, bytes) else json.loads(frame))
            command = self.heard[-1] if isinstance(frame, str) else {}
            if command.get("type") == "send_message":
                await self._say(socket, "audio", item_id="i", content_index=0, data="AAAA")
                await self._say(socket, "transcript_delta", item_id="i", role="assistant", text=command["text"].upper())
            if command.get("type") == "end":
                await self._say(socket, "session_ended", reason="ended")
                await socket.close(1000)

    async def _say(self, socket: ServerConnection, kind: str, **fields: Any) -> None:
        await socket.send(json.dumps({"type": kind, "seq": 1, "session": "01S", "at": 0, **fields}))


@asynccontextmanager
async def playing() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    async with serve(gateway.serve, "127.0.0.1", 0) as server:
        gateway.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield gateway


async def test_commands_are_those_of_the_native_face() -> None:
    async with playing() as gateway:
        async with GatewayCall(gateway.url, agent="front desk", api_key="s3cret") as call:
            await call.send_message("hi")
            await call.send_audio(b"\1\2")
            await call.send_audio(b"\3\4", commit=True)
            await call.interrupt()
            await call.approve_tool_call("c1", always=True)
            await call.reject_tool_call("c2", rejection_message="no")
            await call.command("mute", muted=True)
            async with recorded(call) as events:
                await events.expect_text("HI")
        assert gateway.path == "/v1/sessions/connect?audio=json&agent=front+desk"
        assert gateway.headers["authorization"] == "Bearer s3cret"
        ending = gateway.heard.pop()
        assert ending["type"] == "end"
        assert ending["id"]
        assert gateway.heard[3].pop("id"), "its sound is kept until it is answered"
        assert gateway.heard == [
            {"type": "send_message", "text": "hi"},
            b"\1\2",
            b"\3\4",
            {"type": "commit"},
            {"type": "interrupt"},
            {"type": "approve", "call_id": "c1", "always": True},
            {"type": "reject", "call_id": "c2", "always": False, "message": "no"},
            {"type": "mute", "muted": True},
        ]
    assert (call.session, call.close_code) == ("01S", 1000)


async def test_everybody_who_iterates_sees_all_events_from_the_beginning() -> None:
    async with playing() as gateway, GatewayCall(gateway.url) as call:
        await call.send_message("hi")
        async with recorded(call) as first:
            await first.expect_text("HI")
        assert first.of("audio")[0].data["bytes"] == 3
        await call.command("end")
        kinds = [[event["type"] async for event in call] for _ in range(2)]
        assert kinds[0] == kinds[1] == ["session_started", "audio", "transcript_delta", "session_ended"]
        async with recorded(call) as late:
            await late.expect_event("session_ended", reason="ended")


async def test_a_call_that_has_ended_says_so() -> None:
    async with playing() as gateway, GatewayCall(gateway.url) as call:
        await call.command("end")
        async for _ in call:
            pass
        with pytest.raises(RemoteError, match="the gateway has closed the conversation"):
            await call.send_message("hi")
        with pytest.raises(RemoteError, match="the gateway has closed the conversation"):
            await call.send_audio(b"\0\0")


async def test_an_address_without_a_gateway_is_told() -> None:
    for url in ("ftp://x", "127.0.0.1:8080", "ws://"):
        with pytest.raises(UserError, match="is no gateway's address"):
            GatewayCall(url)
    with pytest.raises(RemoteError, match=r"no gateway answers at ws://127\.0\.0\.1:1/v1/sessions/connect"):
        async with GatewayCall("ws://127.0.0.1:1"):
            pass
    with pytest.raises(UserError, match="not connected"):
        await GatewayCall("ws://127.0.0.1:1").send_message("hi")


async def test_what_is_the_gateways_own_cannot_be_asked_of_it() -> None:
    for field in ({"tools": {"a": {"returns": 1}}}, {"settings": {"voice": "ash"}}, {"context": {"a": 1}}):
        scenario = Scenario.model_validate({"steps": [{"wait": 0}], **field})
        with pytest.raises(ScenarioError, match=f"{next(iter(field))}: cannot be had from a gateway"):
            await run_scenario_at(scenario, "ws://127.0.0.1:1")


async def test_a_gateway_that_is_not_there_is_a_result() -> None:
    result = await run_scenario_at(Scenario.model_validate({"steps": [{"wait": 0}]}), "ws://127.0.0.1:1")
    assert "no gateway answers" in result.problem


async def test_a_scenario_is_held_with_a_real_gateway(redis_url: str, stream_prefix: str) -> None:
    bus: dict[str, Any] = {"redis_url": redis_url, "stream_prefix": stream_prefix}
    targets = load_targets(["examples.front_desk"])
    weather = {
        "steps": [
            {"say": "What is the weather in Paris?"},
            {"expect_tool": {"name": "get_weather", "arguments": {"city": "Paris"}, "output": {"city": "Paris"}}},
            {"expect_text": {"matches": "sunny|cloudy|rainy|windy"}},
            {"interrupt_after": 0},
            {"expect_interruption": True},
            {"say": "[[call: transfer_to_reservations {}]][[next]][[say: Your room?]]"},
            {"expect_handoff": "reservations"},
            {"expect_text": "Your room?"},
        ]
    }
    async with running_simulator() as simulator:
        settings = GatewaySettings(
            **bus, model_url=simulator.url, model_api_key="test", http_port=0, ops_port=0, drain_timeout=0
        )
        async with (
            ToolWorker(targets.tools.values(), **bus),
            running_gateway(settings, targets) as gateway,
            asyncio.timeout(30),
        ):
            url = f"ws://127.0.0.1:{gateway.port}"
            result = await run_scenario_at(Scenario.model_validate(weather), url, agent="concierge")
    result.raise_if_failed()
