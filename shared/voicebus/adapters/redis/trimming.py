"""Ids of stream entries as places in their stream, and the one rule by which a stream with groups is trimmed."""

import asyncio
from collections.abc import Mapping
from typing import Any

from voicebus.adapters.redis.client import RedisConnection


def position(entry_id: str) -> tuple[int, int]:
    """An entry's place: ids compare as numbers, not as text."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def after(entry_id: str) -> str:
    """The lowest id behind this one."""
    milliseconds, number = position(entry_id)
    return f"{milliseconds}-{number + 1}"


def pairs(row: Any) -> dict[str, Any]:
    """A row of XINFO as a mapping."""
    return dict(row) if isinstance(row, Mapping) else dict(zip(row[::2], row[1::2], strict=True))


async def undone(bus: RedisConnection, stream: str) -> dict[str, str]:
    """Of each group the lowest id that it has not done with: its lowest pending one, else behind the last delivered.

    The groups are asked before their pending entries: what is delivered in between has higher ids.

    Raises:
        BusError: Redis cannot be reached, or there is no such stream.
    """
    groups = [pairs(group) for group in await bus.call("XINFO", "GROUPS", stream)]
    waiting = await asyncio.gather(
        *(bus.submit("XPENDING", stream, group["name"], "-", "+", 1, parse_detail=True) for group in groups)
    )
    return {
        group["name"]: rows[0]["message_id"] if rows else after(group["last-delivered-id"])
        for group, rows in zip(groups, waiting, strict=True)
    }


async def trim(bus: RedisConnection, stream: str) -> None:
    """Delete what every group has done with; never what is undelivered.

    Raises:
        BusError: Redis cannot be reached, or there is no such stream.
    """
    bounds = await undone(bus, stream)
    if bounds:
        await bus.call("XTRIM", stream, "MINID", min(bounds.values(), key=position))
