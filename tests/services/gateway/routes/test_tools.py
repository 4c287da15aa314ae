"""`GET /v1/tools`: what agents may call, and who runs it now."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2

from services.gateway.bank import transfer
from services.gateway.conftest import BANK, Gateways
from voicebus import ToolWorker
from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.streams import Keys
from voicebus_services.gateway.wiring import Gateway


async def listed(gateway: Gateway, **options: Any) -> dict[str, Any]:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{gateway.port}/v1/tools", **options)
    assert answer.status_code == 200
    assert answer.json()["next_cursor"] is None
    return {tool["name"]: tool for tool in answer.json()["data"]}


async def test_tools_are_listed_with_their_agents_and_living_workers(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    async with gateways(BANK) as gateway:
        before = (await listed(gateway))["transfer"]
        async with ToolWorker([transfer], redis_url=redis_url, stream_prefix=stream_prefix):
            found = await listed(gateway)
        after = (await listed(gateway))["transfer"]
    tool = found["transfer"]
    assert tool["agents"] == ["branch", "teller"]
    assert (tool["description"], tool["queue"], tool["needs_approval"]) == ("Move money.", "bank", True)
    assert list(tool["parameters"]["properties"]) == ["amount"]
    assert (before["workers"], before["queue"]) == ([], None)
    assert len(tool["workers"]) == 1
    assert after["workers"] == []
    assert found["note"]["agents"] == ["teller"]
    assert list(found) == sorted(found)


async def test_a_key_for_some_agents_sees_their_tools_alone(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    key = {"id": "one", "tenant": "acme", "sha256": hashlib.sha256(b"right").hexdigest(), "agents": ["branch"]}
    keys.write_text(json.dumps(key))
    async with gateways(BANK, api_keys_file=keys) as gateway:
        found = await listed(gateway, headers={"Authorization": "Bearer right"})
    assert {name: tool["agents"] for name, tool in found.items()} == {"account": ["branch"], "transfer": ["branch"]}


async def test_a_tool_that_rests_is_shown_and_reset(gateways: Gateways, redis_url: str, stream_prefix: str) -> None:
    async with gateways(BANK) as gateway, await connect(redis_url) as bus, httpx2.AsyncClient() as http:
        watch = CircuitWatch(bus, Keys(stream_prefix), RedisClock(bus))
        await watch.open("transfer", rest_ms=60_000, failures=3, worker="w1", error="closed")
        found = await listed(gateway)
        assert found["note"]["circuit"] is None
        circuit = found["transfer"]["circuit"]
        assert (circuit["state"], circuit["failures"], circuit["error"]) == ("open", 3, "closed")
        address = f"http://127.0.0.1:{gateway.port}/v1/tools"
        answer = await http.post(f"{address}/transfer/circuit/reset")
        assert (answer.status_code, answer.json()["circuit"]) == (200, None)
        assert await watch.read() == {}
        answer = await http.post(f"{address}/no_such_tool/circuit/reset")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_tool")
