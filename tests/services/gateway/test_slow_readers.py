"""Clients of the native face that read slowly or late, and read: they miss nothing and are not taken for deaf."""

import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from services.gateway.clients import TestClient, native
from support.waiting import wait_until
from voicebus.runtime import frames
from voicebus_services.gateway.faces import outlet, told_history
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.wiring import Gateway

TURNS = 6
# So much that the kernel does not keep all that is said of it.
TEXT = "x" * 150_000


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in these tests is beyond the bound for those that do not read; a slow machine reads late, too."""
    monkeypatch.setattr(outlet, "MAX_EVENTS", 64 * 1024)
    monkeypatch.setattr(outlet, "STALLED_S", 3600.0)


def narrow(gateway: Gateway) -> socket.socket:
    """A connection whose client's kernel keeps little, so that it is the gateway that has to."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024)
    connection.connect(("127.0.0.1", gateway.port))
    return connection


async def talk(client: TestClient, gateway: Gateway, session: str) -> None:
    """Say much, and read nothing of what comes of it."""
    face = gateway.sessions.find(session)
    assert isinstance(face, NativeFace)
    for number in range(TURNS):
        ended = turns_ended(face)
        await client.send("send_message", text=f"[[say: ok]] {number} {TEXT}")
        await wait_until(lambda: turns_ended(face) > ended, description=f"the end of turn {number}")  # noqa: B023


def turns_ended(face: NativeFace) -> int:
    return sum(event.type == "turn_ended" for event in face.recorded.after(0))


def recorded(client: TestClient) -> list[int]:
    """The seqs of the recorded events that a client has seen, and that none of its events goes back."""
    seqs = [event["seq"] for event in client.seen if not isinstance(event, bytes)]
    assert seqs == sorted(seqs)
    return sorted(set(seqs))


async def has_all(client: TestClient, gateway: Gateway, session: str) -> None:
    """It has all that was recorded, once it reads."""
    await client.send("interrupt", id="last")
    await client.until("ack", id="last")
    face = gateway.sessions.find(session)
    assert face is not None
    assert recorded(client) == list(range(1, face.recorded.last + 1))
    assert len(client.events("turn_ended")) == TURNS


async def test_a_speaker_that_reads_late_is_told_all_but_histories_that_others_replace(gateway: Gateway) -> None:
    async with native(gateway, sock=narrow(gateway), max_queue=1, ping_interval=None) as speaker:
        started = await speaker.until("history_updated")
        await talk(speaker, gateway, started["session"])
        await has_all(speaker, gateway, started["session"])
    histories = [event["history"] for event in speaker.events("history_updated")]
    assert len(histories) < 2 * TURNS
    assert sum(TEXT in json.dumps(item) for item in histories[-1]) == TURNS


async def test_of_its_histories_each_item_is_encoded_once(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    large: list[str] = []

    def dump_event(event: Mapping[str, Any]) -> bytes:
        frame = frames.dump_event(event)
        if len(frame) > len(TEXT):
            large.append(event["item_id"])
        return frame

    monkeypatch.setattr(told_history, "dump_event", dump_event)
    async with native(gateway, sock=narrow(gateway), max_queue=1, ping_interval=None) as speaker:
        started = await speaker.until("history_updated")
        await talk(speaker, gateway, started["session"])
    assert len(set(large)) == len(large) == TURNS


async def test_who_comes_back_to_more_than_may_wait_gets_all_of_it(gateway: Gateway) -> None:
    async with native(gateway) as speaker:
        started = await speaker.until("session_started")
        await talk(speaker, gateway, started["session"])
        await speaker.socket.close(1001)
    back = f"?session={started['session']}&token={started['token']}&seq=1"
    async with native(gateway, back, sock=narrow(gateway), max_queue=1, ping_interval=None) as again:
        await has_all(again, gateway, started["session"])
