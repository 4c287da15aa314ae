"""How many attributes the objects of a session have: of one with more than 30 Python finds none at once."""

from typing import Any, Final

from services.gateway.clients import realtime
from services.gateway.conftest import Gateways

MOST: Final = 30
"""SHARED_KEYS_MAX_SIZE of CPython: instances of a class share the names of so many, and the interpreter learns where
each of these is. Frames of audio ask for some thirty of them."""


def attributes(thing: object) -> dict[str, Any]:
    return getattr(thing, "__dict__", {})


async def test_what_frames_ask_has_no_more_attributes_than_python_finds_at_once(gateways: Gateways) -> None:
    async with gateways() as gateway, realtime(gateway) as client:
        await client.until("session.created")
        (held,) = gateway.sessions
        asked: list[object] = [held.face, held.face.driver]
        asked += [part for thing in asked for part in attributes(thing).values()]
        counts = {type(thing).__qualname__: len(attributes(thing)) for thing in asked}
    assert {"SessionDriver", "OpenAIConnection"} <= counts.keys()
    assert {name: count for name, count in counts.items() if count > MOST} == {}
