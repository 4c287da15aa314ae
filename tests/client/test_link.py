"""A link whose connections are given to it: what is said while one is opened again."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from support.waiting import wait_until
from voicebus.client import dialling, link
from voicebus.client.connecting import connect
from voicebus.client.creating import create_session
from voicebus.client.link import NativeLink
from voicebus.errors import RemoteError, UserError

STARTED = {"type": "session_started", "session": "s", "token": "t", "seq": 1}
RESUMED = {"type": "session_resumed", "session": "s", "token": "t", "from_seq": 1, "seq": 1}


class Connection:
    """Takes what is sent once `open`; iterating gives `says` and what is put into `later`, until `cut`."""

    def __init__(self, *says: dict[str, Any]) -> None:
        self.says = says
        self.open = asyncio.Event()
        self.cut = asyncio.Event()
        self.later: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[Any] = []
        self.close_code = 1006
        self.close_reason = ""
        self.is_read = False

    async def send(self, frame: Any) -> None:
        self.sent.append(frame if isinstance(frame, bytes) else json.loads(frame)["id"])
        await self.open.wait()
        if self.cut.is_set():
            raise ConnectionClosedError(None, None)

    async def close(self, code: int = 1000) -> None:
        self.cut.set()

    async def __aiter__(self) -> Any:
        self.is_read = True
        for event in self.says:
            yield json.dumps(event)
        while not self.cut.is_set():
            cut = asyncio.create_task(self.cut.wait(), name="cut")
            later = asyncio.create_task(self.later.get(), name="later")
            await asyncio.wait({cut, later}, return_when=asyncio.FIRST_COMPLETED)
            if later.done():
                yield json.dumps(later.result())
            cut.cancel()
            later.cancel()


class Given(NativeLink):
    """Its connections are those given, in their order."""

    def __init__(self, *connections: Connection) -> None:
        super().__init__("http://gateway.example")
        self._connections = list(connections)

    async def _dial(self, address: str) -> Any:
        return self._connections.pop(0)


async def test_what_is_said_while_the_rest_is_caught_up_is_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "FIRST_DELAY_S", 0.0)
    first, second = Connection(STARTED), Connection(RESUMED)
    made = Given(first, second)
    await made.open()
    seen: list[Any] = []

    def types() -> list[str]:
        return [event["type"] for event in seen]

    async def read() -> None:
        async for event in made:
            seen.append(event)  # noqa: PERF401 - each as it comes

    reading = asyncio.create_task(read(), name="reading")
    await wait_until(lambda: types() == ["session_started"], description="the greeting")
    first.open.set()
    await made.command("send_message", "a", text="one")
    first.cut.set()
    await wait_until(lambda: second.sent == ["a"], description="the second connection to be caught up")
    saying = asyncio.create_task(made.command("send_message", "b", text="two"), name="saying")
    await made.send_audio(b"\0\0")
    await asyncio.sleep(0)
    second.open.set()
    await saying
    assert second.sent == ["a", "b", b"\0\0"]
    await made.close()
    await reading
    assert types() == ["session_started", "connection_lost", "connection_resumed", "session_resumed"]


async def test_a_credential_is_not_taken_along_to_where_a_gateway_redirects() -> None:
    heads: list[bytes] = []

    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        port = writer.get_extra_info("sockname")[1]
        place = b"Location: ws://localhost:%d/elsewhere" % port
        if heads[-1].startswith(b"POST"):
            place = place.replace(b"ws:", b"http:")
        writer.write(b"HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\n" + place + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirecting, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(RemoteError, match="HTTP 302"):
            await NativeLink(url, api_key="secret").open()
        with pytest.raises(RemoteError, match="HTTP 302"):
            await create_session(url, {}, headers={"Authorization": "Bearer secret"})
    assert [head.split()[1] for head in heads] == [b"/v1/sessions/connect", b"/v1/sessions"]


@pytest.mark.parametrize(
    "given", [{"api_key": "se\ncret"}, {"api_key": " \n"}, {"headers": {"Authorization": "Bearer se\r\nX-Other: cret"}}]
)
def test_what_no_header_can_carry_is_refused_and_not_told(given: Any) -> None:
    with pytest.raises(UserError, match=r"api_key is blank, or holds|headers holds a value that no header") as refused:
        connect("http://127.0.0.1:1", **given)
    assert "cret" not in str(refused.value)


async def test_a_gateway_that_says_nothing_is_left_before_another_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", 0.2)
    served: list[ServerConnection] = []

    async def gateway(connection: ServerConnection) -> None:
        served.append(connection)
        if len(served) == 1:
            await connection.send(json.dumps(STARTED))
            connection.transport.abort()
        elif len(served) > 2:
            await connection.send(json.dumps(RESUMED))
        await connection.wait_closed()

    async with serve(gateway, "127.0.0.1", 0) as server:
        made = NativeLink(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await made.open()
        reading = asyncio.create_task(_read(made), name="reading")
        await wait_until(lambda: len(served) >= 3, description="a third connection")
        async with asyncio.timeout(20):
            await served[1].wait_closed()
        assert not reading.done()
        await made.close()
        await reading


async def test_a_gateways_answer_to_the_close_is_heard_behind_all_that_nobody_reads() -> None:
    dialled: list[ClientConnection] = []

    class Kept(NativeLink):
        async def _dial(self, address: str) -> ClientConnection:
            dialled.append(await super()._dial(address))
            return dialled[-1]

    async def says_much(connection: ServerConnection) -> None:
        await connection.send(json.dumps(STARTED))
        for _ in range(100):
            await connection.send(b"sound")
        await connection.wait_closed()

    async with serve(says_much, "127.0.0.1", 0) as server:
        made = Kept(f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
        await made.open()
        assert await anext(aiter(made)) == STARTED
        await made.close()
    assert [socket.close_code for socket in dialled] == [1000]


async def test_a_link_that_is_closed_while_it_is_opened_again_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "FIRST_DELAY_S", 0.0)
    first, second = Connection(STARTED), Connection()
    made = Given(first, second)
    await made.open()
    reading = asyncio.create_task(_read(made), name="reading")
    await wait_until(lambda: made.token == "t", description="the greeting")
    first.cut.set()
    await wait_until(lambda: second.is_read, description="the second connection to be waited for")
    await made.close()
    second.later.put_nowait(RESUMED)
    async with asyncio.timeout(20):
        await reading
    assert second.cut.is_set()


async def test_an_end_that_a_dying_gateway_has_not_written_is_asked_again_of_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "FIRST_DELAY_S", 0.0)
    first, second = Connection(STARTED), Connection(RESUMED)
    made = Given(first, second)
    await made.open()
    first.open.set()
    second.open.set()
    reading = asyncio.create_task(_read(made), name="reading")
    await wait_until(lambda: made.token == "t", description="the greeting")
    ending = asyncio.create_task(made.hang_up(), name="ending")
    await wait_until(lambda: first.sent, description="the end to be asked for")
    first.cut.set()
    await wait_until(lambda: second.sent, description="the end to be asked for again")
    assert second.sent == first.sent
    assert not ending.done()
    second.later.put_nowait({"type": "ack", "id": second.sent[0], "seq": 1})
    await ending
    await made.hang_up()  # nor is it asked for once more
    assert second.sent == first.sent
    await made.close()
    await reading


async def test_who_hangs_up_does_not_wait_longer_than_the_session_lasts_or_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent, telling = Connection(STARTED), Connection(STARTED)
    silent.open.set()
    telling.open.set()
    made = Given(silent)
    await made.open()
    reading = asyncio.create_task(_read(made), name="reading")
    monkeypatch.setattr(link, "HANG_UP_S", 0.01)
    await made.hang_up()
    assert len(silent.sent) == 1
    await made.close()
    await reading
    monkeypatch.undo()
    made = Given(telling)
    await made.open()
    reading = asyncio.create_task(_read(made), name="reading")
    ending = asyncio.create_task(made.hang_up(), name="ending")
    await wait_until(lambda: telling.sent, description="the end to be asked for")
    telling.later.put_nowait({"type": "session_ended", "reason": "ended", "seq": 2})
    await ending
    with pytest.raises(RemoteError):
        await made.hang_up()
    await made.close()
    await reading


async def _read(made: NativeLink) -> None:
    async for _ in made:
        pass
