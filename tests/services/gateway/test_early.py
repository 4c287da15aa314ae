"""What a client says before its session is configured: nothing of it reaches the model before the settings do."""

import base64

import pytest

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from services.gateway.models import scripted_model
from support.waiting import wait_until
from voicebus_services.gateway.faces.early import AUDIO_KEPT_S, MAX_EARLY, EarlyFrames

SECOND = 48_000


async def append(client: TestClient, kind: str, samples: bytes) -> None:
    if kind == "binary":
        await client.socket.send(samples)
    elif kind == "native":
        await client.send("audio", data=base64.b64encode(samples).decode())
    else:
        await client.send("input_audio_buffer.append", audio=base64.b64encode(samples).decode())


async def heard_by_the_gateway(client: TestClient) -> None:
    """Return when the gateway has taken every frame so far: it answers pings in their order."""
    await (await client.socket.ping())


@pytest.mark.parametrize("kind", ["binary", "native", "openai"])
async def test_audio_and_commit_from_before_the_session_wait_for_its_settings_and_keep_their_order(
    gateways: Gateways, kind: str
) -> None:
    async with (
        scripted_model(slow=True) as model,
        gateways(model_url=model.url) as gateway,
        realtime(gateway) if kind == "openai" else native(gateway) as client,
    ):
        for value in (b"\x01\x00", b"\x02\x00"):
            await append(client, kind, value * 2400)
        await client.send("input_audio_buffer.commit" if kind == "openai" else "commit")
        await append(client, kind, b"\x03\x00" * 2400)
        await heard_by_the_gateway(client)
        await wait_until(lambda: model.heard, description="the settings at the model")
        assert model.types == ["update"]
        model.released.set()
        await wait_until(lambda: len(model.audio) == 3 * 4800, description="the audio at the model")
        assert model.types[0] == "update"
        audio = [kind for kind in model.types if kind in ("append", "commit")]
        assert audio == ["append", "append", "commit", "append"]
        assert model.audio == b"".join(value * 2400 for value in (b"\x01\x00", b"\x02\x00", b"\x03\x00"))


@pytest.mark.parametrize("kind", ["binary", "native", "openai"])
async def test_of_much_audio_from_before_the_session_the_newest_five_seconds_are_sent(
    gateways: Gateways, kind: str
) -> None:
    async with (
        scripted_model(slow=True) as model,
        gateways(model_url=model.url) as gateway,
        realtime(gateway) if kind == "openai" else native(gateway) as client,
    ):
        for second in range(8):
            await append(client, kind, bytes([second, 0]) * (SECOND // 2))
        await heard_by_the_gateway(client)
        model.released.set()
        await wait_until(lambda: len(model.audio) >= 5 * SECOND, description="the audio at the model")
        assert model.audio == b"".join(bytes([second, 0]) * (SECOND // 2) for second in range(3, 8))
        if kind != "openai":
            error = await client.until("error", code="early_audio_dropped")
            assert error["message"].startswith("3.0 s ")


def test_one_append_is_kept_however_long() -> None:
    early = EarlyFrames()
    early.add(True, b"short", samples=SECOND, byte_rate=SECOND)
    early.add(True, b"long", samples=300 * SECOND, byte_rate=SECOND)
    assert early.take(byte_rate=SECOND) == [(True, b"long")]
    assert early.dropped == SECOND


def test_what_is_not_audio_is_never_dropped_and_fills_the_buffer() -> None:
    early = EarlyFrames()
    early.add(False, b"x" * MAX_EARLY, samples=0, byte_rate=SECOND)
    assert not early.is_full
    for _ in range(AUDIO_KEPT_S + 1):
        early.add(True, b"a", samples=SECOND, byte_rate=SECOND)
    assert early.is_full
    frames = early.take(byte_rate=SECOND)
    assert [binary for binary, _ in frames] == [False] + [True] * AUDIO_KEPT_S
    assert not early.is_full
    assert early.take(byte_rate=SECOND) == []


def test_the_bound_follows_the_format_that_the_session_turns_out_to_have() -> None:
    early = EarlyFrames()
    for number in range(8):
        early.add(True, bytes([number]), samples=8_000, byte_rate=SECOND)
    assert early.take(byte_rate=8_000) == [(True, bytes([number])) for number in range(3, 8)]
