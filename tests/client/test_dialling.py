"""One attempt to open a connection, and how long to wait before the next."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from voicebus.client.dialling import LONGEST_DELAY_S, delay, dial
from voicebus.errors import RemoteError


async def test_a_connection_that_is_closed_before_it_is_asked_anything_is_nobodys_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As by a proxy of ports whose gateway is away; the client is busy at that moment.
    asks = ClientConnection.handshake

    async def asks_late(connection: ClientConnection, *arguments: Any, **options: Any) -> None:
        await asyncio.shield(connection.connection_lost_waiter)
        await asks(connection, *arguments, **options)

    monkeypatch.setattr(ClientConnection, "handshake", asks_late)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match="no gateway answers at"):
            await dial(f"ws://127.0.0.1:{port}/v1/native", headers={}, tls=None)


@pytest.mark.parametrize("attempt", [0, 1, 10, 2_000, 1_000_000])
def test_however_often_it_was_tried_the_next_attempt_is_soon(attempt: int) -> None:
    assert 0 < delay(attempt) <= LONGEST_DELAY_S
