"""Calls of tools that wait for a person's word, as Redis has them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.directory import SessionDirectory, SessionSeen, Status
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import Keys

# Sessions whose calls are read at once: each may have results of a quarter of a megabyte.
_AT_ONCE: Final = 16
_PAGE: Final = 1000
_LIVE: Final = frozenset({Status.ACTIVE, Status.IDLE})


@dataclass(frozen=True, slots=True)
class AwaitingCall:
    """`arguments` is the JSON text that the model gave; `asked_at` ms since 1970 (UTC)."""

    session: str
    call_id: str
    tool: str
    arguments: str
    agent: str
    asked_at: int


async def awaiting(
    bus: RedisConnection, keys: Keys, directory: SessionDirectory, tenant: str
) -> AsyncIterator[AwaitingCall]:
    """The calls that wait in a tenant's live sessions, newest session first, of each in the order of asking.

    Raises:
        BusError: Redis cannot be reached.
    """
    after = None
    while True:
        page = await directory.page(tenant, limit=_PAGE, after=after, wanted=lambda seen: seen.status in _LIVE)
        for place in range(0, len(page.sessions), _AT_ONCE):
            some = page.sessions[place : place + _AT_ONCE]
            replies = await asyncio.gather(*(bus.call("HGETALL", keys.session_calls(seen.id)) for seen in some))
            for seen, reply in zip(some, replies, strict=True):
                for call in _waiting(seen, pairs(reply)):
                    yield call
        after = page.after
        if after is None:
            return


def _waiting(seen: SessionSeen, calls: Mapping[str, str]) -> Sequence[AwaitingCall]:
    found: list[AwaitingCall] = []
    for name, text in calls.items():
        if f"{name}:decision" in calls or EventType.TOOL_APPROVAL_REQUIRED not in text:
            continue
        event: Mapping[str, Any] = json.loads(text)
        if event["type"] == EventType.TOOL_APPROVAL_REQUIRED:
            found.append(
                AwaitingCall(seen.id, event["call_id"], event["tool"], event["arguments"], event["agent"], event["at"])
            )
    return sorted(found, key=lambda call: call.asked_at)
