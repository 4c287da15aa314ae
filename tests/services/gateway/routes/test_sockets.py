"""The addresses of WebSockets, asked over HTTP."""

import httpx2
import pytest

from voicebus_services.gateway.wiring import Gateway


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/realtime?model=desk", "/v1/sessions/connect?agent=desk"])
async def test_a_request_whose_upgrade_was_lost_on_its_way_is_told_so(gateway: Gateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"
    assert "proxy" in answer.json()["detail"]
