"""WebRTC through the gateway: the offer goes to the provider, and the gateway is on the call with an agent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio as aioredis
from fastapi import FastAPI, Request, Response, WebSocket

from services.gateway.conftest import BANK, Gateways
from services.gateway.services import working
from services.model_simulator.client import Client, connected
from support.simulator import SimulatorHandle, running_simulator
from support.waiting import wait_until
from voicebus.agents.targets import load_targets
from voicebus.contracts.streams import Keys
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.http import serving
from voicebus_services.model_simulator.calls import CallState

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
SDP = {"Content-Type": "application/sdp"}
DEEP: dict[str, Any] = {}
for _ in range(800):
    DEEP = {"a": DEEP}


def form(session: Any = None, offer: bytes = OFFER) -> dict[str, Any]:
    parts = {"sdp": (None, offer, "application/sdp")}
    if session is not None:
        parts["session"] = (None, json.dumps(session).encode(), "application/json")
    return parts


def calls(gateway: Gateway) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}/v1/realtime", timeout=30)


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def id_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == "application/sdp"
    assert answer.text.startswith("v=0")
    path, _, call_id = answer.headers["location"].rpartition("/")
    assert path == "/v1/realtime/calls"
    return call_id


@asynccontextmanager
async def caller(simulator: SimulatorHandle, call_id: str) -> AsyncIterator[Client]:
    """The client on the call: what it would say and hear over WebRTC passes through a socket of the simulator."""
    async with connected(f"{simulator.url}?call_id={call_id}") as client:
        await client.until("session.created")
        yield client


@asynccontextmanager
async def connected_call(http: httpx2.AsyncClient, simulator: SimulatorHandle) -> AsyncIterator[Client]:
    """A call, and the client on it; it is hung up in the end."""
    call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
    async with caller(simulator, call_id) as client:
        yield client
    await http.post(f"/calls/{call_id}/hangup")


async def says(client: Client, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send("conversation.item.create", item=item)
    await client.send("response.create")


async def records(redis_url: str, prefix: str, session: str, kind: str) -> list[Any]:
    keys = Keys(prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        entries: Any = await bus.xrange(keys.events(keys.event_shard(session)))
    return [
        json.loads(fields["data"]) for _, fields in entries if fields["session"] == session and fields["type"] == kind
    ]


async def shown(gateway: Gateway, session: str) -> Any:
    async with httpx2.AsyncClient() as http:
        return (await http.get(f"http://127.0.0.1:{gateway.port}/v1/sessions/{session}")).json()


@pytest.fixture
async def desk(gateways: Gateways, redis_url: str, stream_prefix: str) -> AsyncIterator[Gateway]:
    targets = load_targets(["services.gateway.hotel"])
    async with working(targets, redis_url=redis_url, stream_prefix=stream_prefix), gateways() as running_one:
        yield running_one


async def test_the_agents_tools_run_on_the_call_and_all_of_it_is_recorded(
    desk: Gateway, simulator: SimulatorHandle, redis_url: str, stream_prefix: str
) -> None:
    async with calls(desk) as http:
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
        assert (await shown(desk, call_id))["status"] == "active"
        async with caller(simulator, call_id) as client:
            session = client.events[0]["session"]
            assert session["instructions"] == "You are at the desk."
            assert [tool["name"] for tool in session["tools"]] == ["get_weather", "transfer_to_porter"]
            await says(client, '[[call: get_weather {"city": "Paris"}]][[next]][[say: It is {outputs}.]]')

            async def told() -> bool:
                ends = await records(redis_url, stream_prefix, call_id, "tool_end")
                spoken = await records(redis_url, stream_prefix, call_id, "item_recorded")
                return len(ends) == 1 and any(item["text"] == "It is Paris." for item in spoken)

            await wait_until(told, description="the tool's answer in the record")
            assert (await http.post(f"/calls/{call_id}/hangup")).status_code == 200
        assert simulator.calls.state(call_id) is CallState.ENDED

        async def ended() -> bool:
            return str((await shown(desk, call_id))["status"]) == "ended"

        await wait_until(ended, description="the session to end with its call")
        assert (await shown(desk, call_id))["end_reason"] == "hangup"
        assert problem(await http.post(f"/calls/{call_id}/hangup")) == (409, "session_ended")
        assert problem(await http.post("/calls/rtc_none/hangup")) == (404, "unknown_session")
    (started,) = await records(redis_url, stream_prefix, call_id, "session_started")
    assert started["face"] == "sideband"
    assert not list(desk.sessions)


async def test_what_a_client_tells_the_model_past_the_gateway_leaves_the_agent_its_words_and_tools(
    desk: Gateway, simulator: SimulatorHandle
) -> None:
    """As the WebRTC transport of @openai/agents does first of all, whose agent has no instructions."""
    own = {"type": "function", "name": "own", "description": "The client's.", "parameters": {"type": "object"}}
    async with calls(desk) as http:
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
        async with caller(simulator, call_id) as client:
            voice = {"output": {"voice": "marin"}}
            session = {"type": "realtime", "instructions": "", "tools": [own], "audio": voice}
            await client.send("session.update", session=session)
            assert (await client.until("session.updated"))["session"]["instructions"] == ""
            again = (await client.until("session.updated"))["session"]
            assert again["instructions"] == "You are at the desk."
            assert [tool["name"] for tool in again["tools"]] == ["own", "get_weather", "transfer_to_porter"]
            assert again["audio"]["output"]["voice"] == "marin"
            await says(client, "[[call: own {}]][[next]][[say: Mine says {outputs}.]]")
            call = (await client.until("response.function_call_arguments.done"))["call_id"]
            await client.until("response.done")
            output = {"type": "function_call_output", "call_id": call, "output": "hello"}
            await client.send("conversation.item.create", item=output)
            await client.send("response.create")
            assert "Mine says hello." in json.dumps(await client.until("response.done"))
        await http.post(f"/calls/{call_id}/hangup")


async def test_an_answer_that_a_client_had_begun_under_its_own_instructions_is_given_under_the_agents(
    gateways: Gateways,
) -> None:
    async with running_simulator(pace="step") as simulator, gateways(model_url=simulator.url) as gateway:
        async with calls(gateway) as http, connected_call(http, simulator) as client:
            content = [{"type": "input_text", "text": "[[say: Good day.]]"}]
            await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
            # In one write: the gateway learns of both at once.
            session = {"type": "realtime", "instructions": "Tell everything."}
            await asyncio.gather(client.send("session.update", session=session), client.send("response.create"))
            assert (await client.until("response.done"))["response"]["status"] == "cancelled"
            confirmed = [event["session"] for event in client.events if event["type"] == "session.updated"]
            assert confirmed[-1]["instructions"] == "You are at the desk."
            simulator.step(1000)
            answered = (await client.until("response.done"))["response"]
            assert answered["status"] == "completed"
            assert "Good day." in json.dumps(answered)


async def test_a_handoff_and_another_processs_message_reach_the_call(
    desk: Gateway, simulator: SimulatorHandle, redis_url: str, stream_prefix: str
) -> None:
    async with calls(desk) as http:
        call_id = id_of(await http.post("/calls", files=form()))
        sent = await http.post(
            f"http://127.0.0.1:{desk.port}/v1/sessions/{call_id}/messages",
            json={"text": "[[call: transfer_to_porter {}]][[next]][[say: Your bags?]]"},
        )
        assert sent.status_code == 202

        async def handed() -> bool:
            return str((await shown(desk, call_id))["agent"]) == "porter"

        await wait_until(handed, description="the porter to take over")
        async with caller(simulator, call_id) as client:
            assert client.events[0]["session"]["instructions"] == "You carry bags."


async def test_a_guardrail_stops_what_the_call_would_play(
    gateways: Gateways, simulator: SimulatorHandle, redis_url: str, stream_prefix: str
) -> None:
    target = "services.gateway.strict"
    targets = load_targets([target])
    async with (
        working(targets, redis_url=redis_url, stream_prefix=stream_prefix),
        gateways(target) as gateway,
        calls(gateway) as http,
    ):
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
        async with caller(simulator, call_id) as client:
            await says(client, "[[say: the secret is out]]")
            await client.until("output_audio_buffer.cleared")

        async def tripped() -> bool:
            return bool(await records(redis_url, stream_prefix, call_id, "guardrail_tripped"))

        await wait_until(tripped, description="the guardrail's trip in the record")


async def test_two_calls_at_once_keep_to_themselves(desk: Gateway, simulator: SimulatorHandle) -> None:
    async with calls(desk) as http:
        answers = await asyncio.gather(*(http.post("/calls", params={"agent": name}, content=OFFER, headers=SDP)
                                         for name in ("reception", "porter")))  # fmt: skip
        first, second = map(id_of, answers)
        assert first != second
        assert (await http.post(f"/calls/{first}/hangup")).status_code == 200
        await wait_until(lambda: simulator.calls.state(first) is CallState.ENDED, description="the first call's end")
        assert simulator.calls.state(second) is CallState.ACTIVE
        assert (await shown(desk, second))["agent"] == "porter"


async def test_a_caller_who_hangs_up_ends_the_session_and_gives_its_slot_back(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    async with gateways(max_sessions=1) as gateway, calls(gateway) as http:
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
        full = await http.post("/calls", content=OFFER, headers=SDP)
        assert problem(full) == (503, "full")
        assert full.headers["retry-after"]
        simulator.calls.hangup(call_id)
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")
        assert (await shown(gateway, call_id))["end_reason"] == "hangup"
        id_of(await http.post("/calls", content=OFFER, headers=SDP))


async def test_a_gateway_that_stops_hangs_its_calls_up(gateways: Gateways, simulator: SimulatorHandle) -> None:
    async with gateways() as gateway, calls(gateway) as http:
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
    assert simulator.calls.state(call_id) is CallState.ENDED


async def test_the_client_sets_what_its_agent_lets_it_set(desk: Gateway, simulator: SimulatorHandle) -> None:
    wanted = {
        "type": "realtime", "model": "porter", "instructions": "", "audio": {"output": {"voice": "coral"}},
    }  # fmt: skip
    async with calls(desk) as http:
        call_id = id_of(await http.post("/calls", files=form(wanted)))
        async with caller(simulator, call_id) as client:
            session = client.events[0]["session"]
    assert session["audio"]["output"]["voice"] == "coral"
    assert session["instructions"] == "You carry bags."


async def test_a_browser_calls_with_its_secret_and_with_what_that_was_made_with(
    desk: Gateway, simulator: SimulatorHandle
) -> None:
    asked = {"agent": "porter", "session": {"audio": {"output": {"voice": "coral"}}}}
    async with calls(desk) as http:
        secret = (await http.post("/client_secrets", json=asked)).json()["value"]
        mine = {**SDP, "Authorization": f"Bearer {secret}"}
        call_id = id_of(await http.post("/calls", content=OFFER, headers=mine))
        assert problem(await http.post(f"/calls/{call_id}/hangup", headers=mine)) == (403, "forbidden")
        async with caller(simulator, call_id) as client:
            session = client.events[0]["session"]
    assert session["audio"]["output"]["voice"] == "coral"
    assert session["instructions"] == "You carry bags."
    assert (await shown(desk, call_id))["agent"] == "porter"


@pytest.mark.parametrize(
    ("options", "expected", "named"),
    [
        ({"content": b"hello", "headers": SDP}, (422, "invalid_offer"), "body.sdp"),
        ({"files": form(offer=b"")}, (422, "invalid_offer"), "body.sdp"),
        ({"files": {"session": (None, b"{}", "application/json")}}, (422, "invalid_offer"), "body.sdp"),
        ({"files": {**form(), "session": (None, b"{", "application/json")}}, (422, "invalid_request"), "body.session"),
        ({"files": form([])}, (422, "invalid_request"), "body.session"),
        ({"files": form({"model": 0})}, (422, "invalid_request"), "body.session.model"),
        ({"files": {**form(), "extra": (None, b"{}", "application/json")}}, (422, "invalid_request"), "'extra'"),
        ({"files": form({"instructions": "Obey."})}, (403, "forbidden_parameter"), "session.instructions"),
        ({"files": form({"tools": [{"type": "function"}]})}, (403, "forbidden_parameter"), "session.tools"),
        ({"files": form({"foo": 1})}, (403, "forbidden_parameter"), "session.foo"),
        ({"files": form({"foo": {}})}, (403, "forbidden_parameter"), "session.foo"),
        ({"files": form(DEEP)}, (403, "forbidden_parameter"), "session.a"),
        ({"json": {"sdp": "v=0"}}, (415, "unsupported_media_type"), "application/sdp"),
        ({"params": {"agent": "nobody"}, "content": OFFER, "headers": SDP}, (404, "unknown_agent"), "query.agent"),
        ({"content": b"v=0", "headers": {"Content-Type": "multipart/form-data"}}, (400, "invalid_request"), "body: "),
    ],
)
async def test_a_wrong_request_is_refused_and_nothing_is_called(
    desk: Gateway, simulator: SimulatorHandle, options: dict[str, Any], expected: tuple[int, str], named: str
) -> None:
    async with calls(desk) as http:
        answer = await http.post("/calls", **options)
    assert problem(answer) == expected
    assert named in answer.json()["detail"]
    assert not simulator.hub.sessions
    assert not list(desk.sessions)


async def test_settings_that_the_provider_refuses_are_said(desk: Gateway) -> None:
    async with calls(desk) as http:
        answer = await http.post("/calls", files=form({"audio": {"output": {"speed": 99}}}))
    assert problem(answer) == (422, "call_refused")
    assert "speed" in answer.json()["detail"]
    assert not list(desk.sessions)


async def test_an_agent_whose_words_are_held_back_is_refused(gateways: Gateways) -> None:
    async with gateways(BANK) as gateway, calls(gateway) as http:
        answer = await http.post("/calls", params={"agent": "discreet"}, content=OFFER, headers=SDP)
        assert problem(answer) == (422, "agent_not_for_calls")
        assert "hold" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, (422, "call_refused")), (401, (502, "model_error")), (404, (502, "model_error")),
        (429, (503, "model_busy")), (500, (502, "model_error")), (503, (503, "model_busy")),
        (201, (502, "model_error")), (None, (502, "model_error")),
    ],
)  # fmt: skip
async def test_a_provider_that_makes_no_call_is_a_clear_problem(
    gateways: Gateways, status: int | None, expected: tuple[int, str]
) -> None:
    app = FastAPI()

    @app.post("/v1/realtime/calls")
    async def refuse(request: Request) -> Response:
        await request.body()
        error = {"error": {"type": "x", "code": "y", "message": "No such codec.", "param": None}}
        return Response(json.dumps(error), status or 500, media_type="application/json")

    async with serving(app, host="127.0.0.1", port=0) as server:
        port = 1 if status is None else server.port
        async with gateways(model_url=f"ws://127.0.0.1:{port}/v1/realtime") as gateway, calls(gateway) as http:
            answer = await http.post("/calls", content=OFFER, headers=SDP)
            assert problem(answer) == expected
            detail = answer.json()["detail"]
            assert ("No such codec." in detail) is (status == 400)
            assert "127.0.0.1" not in detail
            assert not list(gateway.sessions)
            assert gateway.sessions.free == 500


async def test_a_call_that_cannot_be_joined_is_hung_up(gateways: Gateways) -> None:
    hung_up: list[str] = []
    app = FastAPI()

    @app.post("/v1/realtime/calls")
    async def create(request: Request) -> Response:
        await request.body()
        return Response(OFFER, 201, {"Location": "/v1/realtime/calls/rtc_deaf"}, media_type="application/sdp")

    @app.post("/v1/realtime/calls/{call_id}/hangup")
    async def hang_up(call_id: str) -> Response:
        hung_up.append(call_id)
        return Response()

    async with serving(app, host="127.0.0.1", port=0) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime"
        async with gateways(model_url=url) as gateway, calls(gateway) as http:
            assert problem(await http.post("/calls", content=OFFER, headers=SDP)) == (502, "model_error")
            await wait_until(lambda: not list(gateway.sessions), description="the session's end")
    assert hung_up == ["rtc_deaf"]


async def test_a_sideband_that_is_cut_is_joined_again_and_the_call_goes_on(
    desk: Gateway, simulator: SimulatorHandle, redis_url: str, stream_prefix: str
) -> None:
    async with calls(desk) as http:
        call_id = id_of(await http.post("/calls", content=OFFER, headers=SDP))
        (sideband,) = simulator.hub.sessions[call_id]._connections
        sideband.drop()

        async def again() -> bool:
            return bool(await records(redis_url, stream_prefix, call_id, "model_reconnected"))

        await wait_until(again, description="the call to be joined again", timeout=30)
        async with caller(simulator, call_id) as client:
            await says(client, '[[call: get_weather {"city": "Paris"}]][[next]][[say: It is {outputs}.]]')

            async def told() -> bool:
                return len(await records(redis_url, stream_prefix, call_id, "tool_end")) == 1

            await wait_until(told, description="the tool's end in the record")
        assert simulator.calls.state(call_id) is CallState.ACTIVE
        assert (await shown(desk, call_id))["status"] == "active"


class Provider:
    """Makes a call once it is `released`, and remembers which ones were hung up."""

    def __init__(self, call_id: str) -> None:
        self.asked, self.released, self.joined = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.hung_up: list[str] = []
        self._call_id = call_id
        self.app = FastAPI()
        self.app.post("/v1/realtime/calls")(self._create)
        self.app.post("/v1/realtime/calls/{call_id}/hangup")(self._hang_up)
        self.app.websocket("/v1/realtime")(self._sideband)

    async def _create(self, request: Request) -> Response:
        await request.body()
        self.asked.set()
        await self.released.wait()
        return Response(OFFER, 201, {"Location": f"/v1/realtime/calls/{self._call_id}"}, media_type="application/sdp")

    async def _hang_up(self, call_id: str) -> Response:
        self.hung_up.append(call_id)
        return Response()

    async def _sideband(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"type": "session.created", "session": {"id": "sess_1"}})
        update = await socket.receive_json()
        await socket.send_json({"type": "session.updated", "session": update["session"]})
        self.joined.set()
        await socket.receive()


@asynccontextmanager
async def provider(call_id: str) -> AsyncIterator[tuple[Provider, str]]:
    """A provider, and its address as a model's."""
    made = Provider(call_id)
    async with serving(made.app, host="127.0.0.1", port=0, ws="websockets-sansio") as server:
        yield made, f"ws://127.0.0.1:{server.port}/v1/realtime"


async def test_a_call_that_is_made_when_a_drain_has_begun_is_hung_up(gateways: Gateways) -> None:
    async with provider("rtc_late") as (made, url):
        async with gateways(model_url=url) as gateway, calls(gateway) as http:
            calling = asyncio.create_task(http.post("/calls", content=OFFER, headers=SDP), name="calling")
            await made.asked.wait()
            await gateway.sessions.drain(0)
            made.released.set()
            assert problem(await calling) == (503, "draining")
            assert not list(gateway.sessions)
    assert made.hung_up == ["rtc_late"]


async def test_a_call_that_is_being_made_at_the_very_end_is_waited_for_and_hung_up(gateways: Gateways) -> None:
    async def answer_at_the_end(gateway: Gateway, made: Provider) -> None:
        await wait_until(lambda: gateway.health.draining, description="the gateway's end")
        made.released.set()

    async with provider("rtc_last") as (made, url):
        async with gateways(model_url=url) as gateway:
            answering = asyncio.create_task(answer_at_the_end(gateway, made), name="answering")
            http = calls(gateway)
            calling = asyncio.create_task(http.post("/calls", content=OFFER, headers=SDP), name="calling")
            await made.asked.wait()
        await answering
        assert problem(await calling) == (503, "draining")
        await http.aclose()
    assert made.hung_up == ["rtc_last"]


async def test_a_client_that_is_gone_before_its_answer_leaves_no_call_behind(gateways: Gateways) -> None:
    async with provider("rtc_alone") as (made, url):
        async with gateways(model_url=url) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            head = (
                f"POST /v1/realtime/calls HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n"
                f"Content-Type: application/sdp\r\nContent-Length: {len(OFFER)}\r\n\r\n"
            )
            writer.write(head.encode() + OFFER)
            await writer.drain()
            await made.asked.wait()
            writer.close()
            await writer.wait_closed()
            assert await reader.read() == b""
            made.released.set()
            await wait_until(lambda: made.hung_up, description="the call to be hung up")
            assert made.joined.is_set()
            await wait_until(lambda: not list(gateway.sessions), description="the slot's return")
            assert gateway.sessions.free == 500
    assert made.hung_up == ["rtc_alone"]


async def test_nobody_calls_without_a_key(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\n")
    async with gateways(api_keys_file=keys) as gateway, calls(gateway) as http:
        assert problem(await http.post("/calls", content=OFFER, headers=SDP)) == (401, "unauthorized")
        mine = {**SDP, "Authorization": "Bearer right"}
        call_id = id_of(await http.post("/calls", content=OFFER, headers=mine))
        assert problem(await http.post(f"/calls/{call_id}/hangup")) == (401, "unauthorized")
        assert (await http.post(f"/calls/{call_id}/hangup", headers=mine)).status_code == 200
