"""The doctor's look at the model: whatever answers at the address, the check ends with a sentence."""

import contextlib

import pytest
import websockets
from websockets.asyncio.server import ServerConnection, serve

from voicebus.errors import ModelLinkError
from voicebus_services.doctor import check_model
from voicebus_services.settings import GatewaySettings, load


async def _check(first_frame: str) -> str:
    async def greet(connection: ServerConnection) -> None:
        await connection.send(first_frame)
        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.recv()

    async with serve(greet, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        return await check_model(load(GatewaySettings, model_url=f"ws://user:hunter2@127.0.0.1:{port}/v1/realtime"))


async def test_a_model_that_greets_is_well() -> None:
    note = await _check('{"type":"session.created"}')
    assert note.endswith("answers session.created")
    assert "hunter2" not in note


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ("hello", "does not speak the protocol"),
        ("[1]", "does not speak the protocol"),
        ('{"type":"error"}', "answers error"),
        ('{"type":"error","error":{"code":"invalid_api_key","message":"No."}}', "answers invalid_api_key: No."),
    ],
)
async def test_anything_else_is_a_finding_and_no_defect(frame: str, why: str) -> None:
    with pytest.raises(ModelLinkError, match=why) as found:
        await _check(frame)
    assert "VOICEBUS_MODEL_" in str(found.value)
    assert "hunter2" not in str(found.value)
