"""Sessions whose owner has died: who owns one, and how another gateway becomes its owner (contract section 8).

An owner keeps in the session's state what the next one needs (`voicebus.engine.keeping`); it is read in the very step
that fences the old owner out, so that nothing can be written between the two.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.former import in_hand
from voicebus.adapters.redis.heartbeat import lives_for_ms
from voicebus.adapters.redis.scripts import TAKE, script
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import SESSION_TTL_S, Keys
from voicebus.contracts.tools import ToolResult
from voicebus.engine.keeping import TOLD, WORK, Kept, read_items, read_work, running_calls
from voicebus.errors import ContractError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

_FIELDS: Final = (
    "owner", "epoch", "status", "face", "tenant", "token_hash", "seq", "released", "ended_at", "moving", "principal",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """A session as whoever wants to take it sees it.

    `lives_for_ms`: how long its owner counts as alive still. `released`: it has given the session up. `address` is
    where it was reached, None where nothing of its heartbeat is left. `ended_at` (ms): 0 where it has not ended.
    `moving`: its owner stops, and gives it to who asks. `principal` is who began it, as its gateway wrote that.
    """

    session: str
    owner: str
    epoch: int
    ended: bool
    face: str
    tenant: str
    token_hash: str
    seq: int
    lives_for_ms: int
    released: bool
    address: str | None
    ended_at: int
    moving: bool
    principal: str


@dataclass(frozen=True, slots=True)
class Left:
    """What an owner has left, read when the session was taken: the hashes of the state, its items and its calls."""

    session: str
    epoch: int
    state: Mapping[str, str]
    items: Mapping[str, str]
    calls: Mapping[str, str]

    def kept(self, now_ms: int) -> Kept:
        """What the engine goes on from.

        Raises:
            ValueError: it cannot be read.
        """
        recorded = {item_id: json.loads(text).get("heard_text") for item_id, text in self.items.items()}
        events = sorted((json.loads(text) for text in self.calls.values()), key=lambda event: int(event["seq"]))
        return Kept(
            seq=int(self.state["seq"]),
            epoch=self.epoch,
            elapsed_s=max(0, now_ms - int(self.state["started_at"])) / 1000,
            items=read_items(self.state),
            work=read_work(self.state.get(WORK, "")),
            recorded=recorded,
            calls=events,
            told_ms=int(self.state[TOLD]) if self.state.get(TOLD) else None,
        )


# KEYS: state.  ARGV: the epoch that it was taken with.
_RELEASE: Final = script(
    "release_session",
    """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'released', '1')
""",
)


class RedisTakeover:
    """Takes sessions for the gateway `gateway`. Every method raises `BusError` where Redis cannot be reached."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock, gateway: str) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._gateway = gateway

    async def look(self, session: str) -> Standing | None:
        """Who owns a session; None where there is none."""
        values: Sequence[str | None] = await self._bus.call("HMGET", self._keys.session_state(session), *_FIELDS)
        known = {name: value or "" for name, value in zip(_FIELDS, values, strict=True)}
        if not known["owner"]:
            return None
        left, address, released = 0, None, known["released"] == "1"
        if not released:
            heartbeat = self._keys.gateway(known["owner"])
            left = await lives_for_ms(self._bus, heartbeat)
            address = await self._bus.call("HGET", heartbeat, "address")
        return Standing(
            session=session,
            owner=known["owner"],
            epoch=int(known["epoch"] or 0),
            ended=known["status"] == "ended",
            face=known["face"],
            tenant=known["tenant"] or LOCAL_TENANT,
            token_hash=known["token_hash"],
            seq=int(known["seq"] or 0),
            lives_for_ms=left,
            released=released,
            address=address or None,
            ended_at=int(known["ended_at"] or 0),
            moving=known["moving"] == "1",
            principal=known["principal"],
        )

    async def read(self, session: str) -> Left | None:
        """What there is of a session now, whoever owns it; None where there is nothing any more."""
        keys = self._keys
        hashes = [keys.session_state(session), keys.session_items(session), keys.session_calls(session)]
        state, items, calls = [
            flat if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=True))
            for flat in await asyncio.gather(*(self._bus.submit("HGETALL", key) for key in hashes))
        ]
        return Left(session, int(state["epoch"]), state, items, calls) if state else None

    async def take(self, session: str, epoch: int, *, owner: str | None = None) -> Left | None:
        """Become the owner of a session that was seen at this epoch; None where another one was quicker.

        `owner` is who is written down as such, by default this gateway.
        """
        keys = self._keys
        hashes = [keys.session_state(session), keys.session_items(session), keys.session_calls(session)]
        reply: Sequence[Any] = await self._bus.script(
            TAKE, hashes, epoch, owner or self._gateway, self._clock.at_ms(), SESSION_TTL_S
        )
        if not int(reply[0]):
            return None
        state, items, calls = (dict(zip(flat[::2], flat[1::2], strict=True)) for flat in reply[1:])
        return Left(session, int(reply[0]), state, items, calls)

    async def release(self, left: Left) -> None:
        """Give up a session that this gateway has taken and could not go on with: any other one may take it at once.

        Nothing where another one has taken it since.
        """
        await self._bus.script(_RELEASE, [self._keys.session_state(left.session)], left.epoch)

    async def in_hand(self, session: str, work: Mapping[str, Any]) -> dict[str, int]:
        """The session's running calls that a worker without claims may have in hand; each with its deadline (ms)."""
        return await in_hand(self._bus, self._keys, session, running_calls(work))

    async def results(self, session: str, work: Mapping[str, Any]) -> list[ToolResult]:
        """What the session's running calls have come to meanwhile, as far as workers have stored it."""
        keys = [self._keys.call(queue, session, call_id) for call_id, queue in running_calls(work)]
        stored = await asyncio.gather(*(self._bus.submit("HGET", key, "result") for key in keys))
        found = []
        for text in filter(None, stored):
            try:
                found.append(ToolResult.stored(text))
            except ContractError as error:  # the call is published again, and answered as what it is
                log.warning("what a worker has stored is no result", session=session, error=str(error))
        return found
