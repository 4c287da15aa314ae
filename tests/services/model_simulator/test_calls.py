"""WebRTC and SIP calls: their states, sidebands and webhooks."""

import json
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.model_simulator.client import connected
from support.simulator import SimulatorHandle, running_simulator
from support.waiting import wait_until
from voicebus_services.model_simulator.calls import CallState, sign_webhook

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
CONFIG = {"type": "realtime", "model": "gpt-realtime", "instructions": "Answer the phone."}


async def post(simulator: SimulatorHandle, path: str, **options: Any) -> httpx2.Response:
    headers = {"Authorization": "Bearer sk-test", **options.pop("headers", {})}
    async with httpx2.AsyncClient() as http:
        return await http.post(f"{simulator.http_url}/v1/realtime/{path}", headers=headers, **options)


def test_webhooks_are_signed_as_the_published_vector() -> None:
    signature = sign_webhook(SECRET, "wh_1", 1750287078, b'{"type":"realtime.call.incoming"}')
    assert signature == "v1,Skts5Oiv1QrQwM02ViJNCK/pw5P7boTFyy8DE4c5eKs="


async def test_a_ringing_call_is_accepted_watched_and_hung_up() -> None:
    async with running_simulator() as simulator:
        webhook = simulator.incoming_call(SECRET)
        event = json.loads(webhook.body)
        assert (event["type"], event["data"]["call_id"]) == ("realtime.call.incoming", webhook.call_id)
        timestamp = int(webhook.headers["webhook-timestamp"])
        signature = sign_webhook(SECRET, webhook.headers["webhook-id"], timestamp, webhook.body)
        assert webhook.headers["webhook-signature"] == signature
        accepted = await post(simulator, f"calls/{webhook.call_id}/accept", json=CONFIG)
        assert (accepted.status_code, accepted.content) == (200, b"")
        async with connected(f"{simulator.url}?call_id={webhook.call_id}") as sideband:
            assert (await sideband.receive())["session"]["instructions"] == "Answer the phone."
            await sideband.send("response.create")
            await sideband.until("response.done")
            assert "response.output_audio_transcript.delta" in sideband.types()
            assert "response.output_audio.delta" not in sideband.types()
            assert (await post(simulator, f"calls/{webhook.call_id}/hangup")).status_code == 200
            with pytest.raises(ConnectionClosed):
                await sideband.until("an event that never comes")
        again = await post(simulator, f"calls/{webhook.call_id}/hangup")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "call_id_not_found")


async def test_each_step_needs_its_state() -> None:
    async with running_simulator() as simulator:
        call = simulator.incoming_call(SECRET).call_id
        for path, body in (("hangup", None), ("refer", {"target_uri": "tel:+15550101"})):
            assert (await post(simulator, f"calls/{call}/{path}", json=body)).status_code == 409
        with pytest.raises(InvalidStatus):
            await connect(f"{simulator.url}?call_id={call}", additional_headers={"Authorization": "Bearer k"})
        wrong = await post(simulator, f"calls/{call}/accept", json={"type": "realtime", "foo": 1})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "session.foo")
        assert simulator.calls.state(call) is CallState.PENDING
        assert (await post(simulator, f"calls/{call}/accept", json=CONFIG)).status_code == 200
        assert (await post(simulator, f"calls/{call}/accept", json=CONFIG)).status_code == 409
        assert (await post(simulator, f"calls/{call}/reject")).status_code == 409
        assert (await post(simulator, "calls/rtc_unknown/accept", json=CONFIG)).status_code == 404


async def test_a_call_can_be_rejected_or_referred() -> None:
    async with running_simulator() as simulator:
        busy = simulator.incoming_call(SECRET).call_id
        assert (await post(simulator, f"calls/{busy}/reject", json={"status_code": 486})).status_code == 200
        assert simulator.calls.outcome(busy) == {"rejected": 486}
        moved = simulator.incoming_call(SECRET).call_id
        await post(simulator, f"calls/{moved}/accept", json=CONFIG)
        assert (await post(simulator, f"calls/{moved}/refer", json={})).status_code == 400
        assert (await post(simulator, f"calls/{moved}/refer", json={"target_uri": "tel:+1"})).status_code == 200
        assert simulator.calls.outcome(moved) == {"referred": "tel:+1"}
        assert simulator.calls.state(moved) is CallState.ENDED
        await wait_until(lambda: not simulator.hub.sessions, description="the session to end with its call")


async def test_webrtc_answers_201_with_the_call_in_its_location() -> None:
    async with running_simulator() as simulator:
        files = {
            "sdp": (None, OFFER, "application/sdp"),
            "session": (None, json.dumps(CONFIG), "application/json"),
        }
        created = await post(simulator, "calls", files=files)
        assert created.status_code == 201
        assert created.headers["content-type"].startswith("application/sdp")
        assert created.text.startswith("v=0")
        call_id = created.headers["location"].rpartition("/")[2]
        assert created.headers["location"] == f"/v1/realtime/calls/{call_id}"
        async with connected(f"{simulator.url}?call_id={call_id}") as sideband:
            assert (await sideband.receive())["session"]["instructions"] == "Answer the phone."


async def test_webrtc_takes_a_bare_offer_with_an_ephemeral_key() -> None:
    async with running_simulator() as simulator:
        secret = (await post(simulator, "client_secrets", json={"session": CONFIG})).json()["value"]
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/sdp"}
        created = await post(simulator, "calls", content=OFFER, headers=headers)
        call_id = created.headers["location"].rpartition("/")[2]
        live = simulator.hub.sessions[call_id]
        assert live.session.config["instructions"] == "Answer the phone."
        assert (await post(simulator, "calls", content="hello", headers=headers)).status_code == 400


async def test_a_call_ends_when_its_session_expires() -> None:
    async with running_simulator(session_lifetime=0.3) as simulator:
        call = simulator.incoming_call(SECRET).call_id
        await post(simulator, f"calls/{call}/accept", json=CONFIG)
        await wait_until(lambda: simulator.calls.state(call) is CallState.ENDED, description="the call to end")
