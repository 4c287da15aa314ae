"""The link to a model: how it dials, and what becomes of failures."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from support.connect_proxy import connect_proxy
from support.servers import free_port
from support.talk import Talk
from support.waiting import wait_until
from voicebus import OpenAIRealtimeWebSocketModel
from voicebus.adapters.openai_realtime import OpenAIRealtimeConnector
from voicebus.adapters.sockets import CLOSE_TIMEOUT_S, Keepalive
from voicebus.errors import ModelLinkError, SettingsError
from voicebus.ports import ModelConnector, ModelLink


@dataclass
class Listener:
    frames: list[bytes] = field(default_factory=list)
    lost: list[tuple[str, int | None]] = field(default_factory=list)

    def model_frame(self, frame: bytes) -> None:
        self.frames.append(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self.lost.append((why, close_code))


@dataclass
class Model:
    """A server that greets, remembers, and closes when told so."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    heard: list[str | bytes] = field(default_factory=list)
    status: int | None = None
    answer: dict[str, str] = field(default_factory=dict)
    body: bytes = b"no"
    close_with: int | None = None

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return Response(self.status, "no", Headers(self.answer), self.body) if self.status else None

    async def talk(self, connection: ServerConnection) -> None:
        await connection.send('{"type":"session.created"}')
        if self.close_with is not None:
            await connection.close(self.close_with, "because")
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                self.heard.append(message)


@asynccontextmanager
async def serving(model: Model) -> AsyncIterator[Model]:
    async with serve(model.talk, "127.0.0.1", 0, process_request=model.check) as server:
        model.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/realtime"
        yield model


async def test_events_and_frames_go_both_ways_and_our_own_close_is_no_loss() -> None:
    listener = Listener()
    async with serving(Model()) as model:
        link = await OpenAIRealtimeConnector(model.url).connect(listener, model="m")
        await wait_until(lambda: listener.frames, description="the greeting")
        link.send({"type": "session.update", "text": "ü"})
        link.send_frame(b'{"type":"x"}')
        await wait_until(lambda: len(model.heard) == 2, description="both events")
        await link.close()
        link.send({"type": "too.late"})
    assert listener.frames == [b'{"type":"session.created"}']
    assert [json.loads(event) for event in model.heard] == [{"type": "session.update", "text": "ü"}, {"type": "x"}]
    assert listener.lost == []


async def test_a_link_that_the_model_closes_is_lost_once_with_its_code() -> None:
    listener = Listener()
    async with serving(Model(close_with=4000)) as model:
        await OpenAIRealtimeConnector(model.url).connect(listener, model="m")
        await wait_until(lambda: listener.lost, description="the loss")
    assert listener.lost == [("the model closed the link (4000 because)", 4000)]


async def test_a_model_that_only_a_proxy_reaches_is_talked_to_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    async with serving(Model()) as model, connect_proxy(int(model.url.split(":")[2].split("/")[0])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        link = await OpenAIRealtimeConnector("ws://models.example/v1/realtime").connect(listener, model="m")
        await wait_until(lambda: listener.frames, description="the greeting")
        await link.close()
    assert proxy.asked == ["CONNECT models.example:80 HTTP/1.1"]


async def test_a_proxy_that_refuses_is_told_of_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connect_proxy(1, refusing=True) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{proxy.port}")
        with pytest.raises(
            ModelLinkError, match=r"models.example cannot be reached \(the proxy refused: .*403"
        ) as told:
            await OpenAIRealtimeConnector("ws://models.example/v1/realtime").connect(Listener(), model="m")
    assert not told.value.fatal
    assert "secret" not in str(told.value)


def test_a_proxy_that_is_none_is_refused_before_anything_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example")
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        OpenAIRealtimeConnector("wss://models.example/v1/realtime", api_key="k").require_credentials()


def test_a_link_that_is_dead_without_a_word_is_known_for_dead_before_its_answer_is_given_up() -> None:
    talk = Talk().asked()
    given_up_s = talk.timers()["stall"] - talk.now
    transport = OpenAIRealtimeWebSocketModel()._transport
    for link in (
        OpenAIRealtimeConnector("ws://h/")._keepalive,
        Keepalive(transport["ping_interval"], transport["ping_timeout"]),
    ):
        assert link.interval_s is not None
        assert link.timeout_s is not None
        assert link.interval_s + link.timeout_s + CLOSE_TIMEOUT_S < given_up_s


async def test_large_frames_pass_both_ways() -> None:
    listener = Listener()
    large = json.dumps({"type": "x", "text": "x" * 9_000_000}).encode()

    class Echo(Model):
        async def talk(self, connection: ServerConnection) -> None:
            async for message in connection:
                await connection.send(message)

    async with serve(Echo().talk, "127.0.0.1", 0, max_size=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        link = await OpenAIRealtimeConnector(url).connect(listener, model="m")
        for _ in range(2):
            link.send_frame(large)
        await wait_until(lambda: len(listener.frames) == 2, description="the echoes")
        await link.close()
    assert listener.frames == [large, large]


@pytest.mark.parametrize(
    ("headers", "key", "expected"),
    [
        ({}, "k", {"authorization": "Bearer k"}),
        ({}, None, {"authorization": None}),
        ({}, " k\n", {"authorization": "Bearer k"}),
        ({"api-key": "azure"}, "k", {"api-key": "azure", "authorization": None}),
        ({"authorization": "Bearer entra"}, "k", {"authorization": "Bearer entra"}),
        ({"OpenAI-Beta": "realtime=v1", "X-Extra": "1"}, "k", {"openai-beta": None, "x-extra": "1"}),
    ],
)
async def test_credentials_go_out_once_and_the_beta_header_never(
    headers: dict[str, str], key: str | None, expected: dict[str, str | None]
) -> None:
    async with serving(Model()) as model:
        link = await OpenAIRealtimeConnector(model.url, api_key=key, headers=headers).connect(Listener(), model="m")
        await link.close()
    (request,) = model.requests
    assert {name: request.headers.get(name) for name in expected} == expected
    assert request.path == "/v1/realtime?model=m"
    assert request.headers["User-Agent"].startswith("voicebus/")


@pytest.mark.parametrize("key", [" \n", "k1\nk2", "k1\r\nX-Other: k2", "k1\x00", "k1\x7f", "\ufeffk1", "k1\u2026"])
@pytest.mark.parametrize("by_function", [False, True])
async def test_a_key_that_no_header_can_carry_is_told_and_nothing_is_dialled(key: str, by_function: bool) -> None:
    async with serving(Model()) as model:
        connector = OpenAIRealtimeConnector(model.url, api_key=(lambda: key) if by_function else key)
        with pytest.raises(ModelLinkError) as refused:
            await connector.connect(Listener(), model="m")
    told = "the model's key is blank, or holds what no header can carry: a line break, or a sign beyond ASCII"
    assert str(refused.value) == told
    assert model.requests == []


@pytest.mark.parametrize(
    ("status", "fatal", "code"),
    [(401, True, "invalid_api_key"), (404, True, None), (503, False, None), (429, False, None)],
)
async def test_a_refused_upgrade_says_so(status: int, fatal: bool, code: str | None) -> None:
    async with serving(Model(status=status)) as model:
        with pytest.raises(ModelLinkError, match=f"refused the connection \\(HTTP {status}\\)") as refused:
            await OpenAIRealtimeConnector(model.url).connect(Listener(), model="m")
    assert (refused.value.fatal, refused.value.code) == (fatal, code)


def refusal(code: str | None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": "No.", "type": kind, "code": code, "param": None}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "fatal", "code"),
    [
        (429, refusal("insufficient_quota"), True, "insufficient_quota"),
        (429, refusal(None, kind="insufficient_quota"), True, "insufficient_quota"),
        (429, refusal("rate_limit_exceeded"), False, None),
        (403, refusal("account_deactivated"), True, "account_deactivated"),
        (404, refusal("invalid_model"), True, "invalid_model"),
        (503, b"59\r\n%b\r\n0\r\n\r\n" % refusal("billing_hard_limit_reached"), True, "billing_hard_limit_reached"),
        (401, refusal("something_new"), True, "invalid_api_key"),
        (503, refusal("server_error"), False, None),
        (429, refusal("insufficient_quota")[:-4], False, None),
        (429, b'{"error": "insufficient_quota"}', False, None),
        (429, b'["insufficient_quota"]', False, None),
        (429, b"", False, None),
    ],
)
async def test_what_dialling_again_cannot_mend_is_read_in_the_body_of_a_refusal(
    status: int, body: bytes, fatal: bool, code: str | None
) -> None:
    async with serving(Model(status=status, body=body)) as model:
        with pytest.raises(ModelLinkError, match=f"HTTP {status}") as refused:
            await OpenAIRealtimeConnector(model.url).connect(Listener(), model="m")
    assert (refused.value.fatal, refused.value.code) == (fatal, code)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-1", 0.0), ("soon", 0.0), ("9" * 400, 0.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0)],
)
async def test_a_refusal_says_how_long_the_server_is_to_be_left_alone(told: str, seconds: float) -> None:
    async with serving(Model(status=429, answer={"Retry-After": told})) as model:
        with pytest.raises(ModelLinkError) as refused:
            await OpenAIRealtimeConnector(model.url).connect(Listener(), model="m")
    assert refused.value.retry_after == seconds


async def test_credentials_do_not_follow_a_redirect() -> None:
    async with serving(Model()) as other, serving(Model(status=302, answer={"Location": other.url})) as model:
        with pytest.raises(ModelLinkError, match=r"HTTP 302"):
            await OpenAIRealtimeConnector(model.url, api_key="k").connect(Listener(), model="m")
    assert other.requests == []


def test_certificate_authorities_are_read_once() -> None:
    one, other = OpenAIRealtimeConnector("wss://one.example/"), OpenAIRealtimeConnector("wss://other.example/")
    assert one._tls is not None
    assert one._tls is other._tls


async def test_an_unreachable_model_says_so() -> None:
    port = free_port()
    with pytest.raises(ModelLinkError, match=f"127.0.0.1:{port} cannot be reached") as unreachable:
        await OpenAIRealtimeConnector(f"ws://127.0.0.1:{port}/").connect(Listener(), model="m")
    assert not unreachable.value.fatal


async def test_credentials_in_the_address_stay_out_of_the_sentence() -> None:
    address = f"ws://user:hunter2@127.0.0.1:{free_port()}/?api-key=hunter2"
    with pytest.raises(ModelLinkError) as unreachable:
        await OpenAIRealtimeConnector(address).connect(Listener(), model="m")
    assert "hunter2" not in str(unreachable.value)


async def test_a_model_that_does_not_answer_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(ModelLinkError, match=r"did not answer within 0\.1 s"):
            await OpenAIRealtimeConnector(url, connect_timeout_s=0.1).connect(Listener(), model="m")


async def test_a_link_that_opens_after_its_caller_has_gone_is_cut() -> None:
    listener, asked, answer, ended = Listener(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(connection: ServerConnection, request: Request) -> None:
        asked.set()
        await answer.wait()

    async def talk(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.set()

    async with serve(talk, "127.0.0.1", 0, process_request=slow) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        dialling = asyncio.create_task(OpenAIRealtimeConnector(url).connect(listener, model="m"))
        await asked.wait()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        answer.set()
        async with asyncio.timeout(5):
            await ended.wait()
    assert listener == Listener()


@pytest.mark.parametrize("url", ["wss://api.openai.com/v1/realtime", "wss://me.openai.azure.com/openai/v1/realtime"])
def test_a_real_provider_is_not_dialled_without_a_credential(url: str) -> None:
    with pytest.raises(SettingsError, match="VOICEBUS_MODEL_API_KEY"):
        OpenAIRealtimeConnector(url).require_credentials()
    OpenAIRealtimeConnector(url, api_key="k").require_credentials()
    OpenAIRealtimeConnector(url, headers={"api-key": "k"}).require_credentials()


def test_any_other_model_may_be_dialled_without_one() -> None:
    OpenAIRealtimeConnector("ws://127.0.0.1:8090/v1/realtime").require_credentials()
    OpenAIRealtimeConnector("wss://api.openai.com.example.org/").require_credentials()


async def test_it_is_a_model_connector() -> None:
    connector: ModelConnector = OpenAIRealtimeConnector("ws://h/")
    assert connector
    async with serving(Model()) as model:
        link: ModelLink = await OpenAIRealtimeConnector(model.url).connect(Listener(), model="m")
        await link.close()


@pytest.mark.parametrize(("scheme", "reads"), [("ws", False), ("ws", True), ("wss", False)])
async def test_a_server_that_hangs_up_before_it_answers_cannot_be_reached(scheme: str, reads: bool) -> None:
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reads:
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hangs_up, "127.0.0.1", 0) as server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
        with pytest.raises(ModelLinkError, match=r"cannot be reached \(.+ before it was a WebSocket"):
            await OpenAIRealtimeConnector(url, api_key="k").connect(Listener(), model="m")
