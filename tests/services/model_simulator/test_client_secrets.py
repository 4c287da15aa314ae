"""Ephemeral secrets: made over HTTP, used over WebSocket."""

from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.model_simulator.client import connected
from support.simulator import SimulatorHandle, running_simulator
from voicebus_services.model_simulator.client_secrets import ClientSecrets


async def create(simulator: SimulatorHandle, body: Any, key: str = "right") -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(
            f"{simulator.http_url}/v1/realtime/client_secrets", json=body, headers={"Authorization": f"Bearer {key}"}
        )


async def test_a_secret_opens_sessions_with_its_configuration() -> None:
    async with running_simulator(simulator_api_key="right") as simulator:
        session = {"type": "realtime", "model": "gpt-realtime-mini", "instructions": "Be brief."}
        made = (await create(simulator, {"session": session})).json()
        assert made["value"].startswith("ek_")
        assert made["session"]["object"] == "realtime.session"
        for _ in range(2):
            async with connected(simulator.url + "?intent=", key=made["value"]) as client:
                opened = (await client.receive())["session"]
                assert {name: opened[name] for name in session} == session


async def test_a_secret_ends_at_its_expiry_and_a_running_session_survives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_simulator(simulator_api_key=None) as simulator:
        made = (await create(simulator, {"expires_after": {"anchor": "created_at", "seconds": 10}})).json()
        async with connected(simulator.url, key=made["value"]) as running:
            await running.receive()
            monkeypatch.setattr(
                "voicebus_services.model_simulator.client_secrets.now", lambda: made["expires_at"] + 0.1
            )
            async with connected(simulator.url, key=made["value"]) as late:
                assert (await late.receive())["error"]["code"] == "invalid_api_key"
            await running.send("input_audio_buffer.clear")
            assert (await running.receive())["type"] == "input_audio_buffer.cleared"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"anchor": "created_at", "seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at", "seconds": 7201}}, "expires_after.seconds"),
        ({"session": {"type": "realtime", "foo": 1}}, "session.foo"),
        ({"session": {"type": "other"}}, "session.type"),
        ({"session": {"type": "realtime", "model": 5}}, "session.model"),
        ([], ""),
    ],
)
async def test_a_wrong_request_makes_no_secret(body: Any, param: str) -> None:
    async with running_simulator() as simulator:
        answer = await create(simulator, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_making_a_secret_needs_the_key() -> None:
    async with running_simulator(simulator_api_key="right") as simulator:
        answer = await create(simulator, {}, key="wrong")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_sideband_is_not_found_with_an_ephemeral_key() -> None:
    async with running_simulator() as simulator, connected(simulator.url) as primary:
        session_id = (await primary.receive())["session"]["id"]
        made = (await create(simulator, {})).json()
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                f"{simulator.url}?call_id={session_id}", additional_headers={"Authorization": f"Bearer {made['value']}"}
            )
        assert refused.value.response.status_code == 404


def test_secrets_differ_even_when_all_else_repeats() -> None:
    assert ClientSecrets().create({})[0].value != ClientSecrets().create({})[0].value
