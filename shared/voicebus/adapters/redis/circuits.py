"""The circuits of tools in Redis: which tools rest now, known by every worker and gateway within a second.

A hash of the open ones, so that most of the time there is nothing in it.
"""

import asyncio
from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.streams import CIRCUITS_TTL_S, Keys
from voicebus.errors import BusError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

POLL_S: Final = 1.0
_MAX_ERROR: Final = 500


class Circuit(BaseModel):
    """An open circuit. Times are ms of the Redis server's clock; until `until` the tool rests, then it is tried."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    since: int
    until: int
    rest_ms: int
    failures: int
    worker: str
    error: str


class CircuitWatch:
    """What is open now, read each second by `run`. Methods raise `BusError` where Redis cannot be reached."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock) -> None:
        self._bus = bus
        self._key = keys.circuits
        self._clock = clock
        self.circuits: Mapping[str, Circuit] = {}

    def rests(self, tool: str) -> bool:
        """Whether the tool is not to be called now."""
        known = self.circuits.get(tool)
        return known is not None and self._clock.at_ms() < known.until

    async def run(self) -> None:
        """Keep `circuits` up to date until cancelled; while Redis is away it stays as it was."""
        while True:
            try:
                await self.read()
            except BusError as error:
                log.debug("circuits not read", error=str(error))
            await asyncio.sleep(POLL_S)

    async def read(self) -> Mapping[str, Circuit]:
        """Read now what is open."""
        row = await self._bus.call("HGETALL", self._key)
        pairs = row.items() if isinstance(row, Mapping) else zip(row[::2], row[1::2], strict=True)
        found = {}
        for tool, text in pairs:
            try:
                found[tool] = Circuit.model_validate_json(text)
            except ValidationError as error:
                why = error.errors(include_url=False, include_input=False)[0]["msg"]
                log.warning("circuit is malformed and counts as closed", tool=tool, error=why)
        self.circuits = found
        return found

    async def open(self, tool: str, *, rest_ms: int, failures: int, worker: str, error: str) -> None:
        """Let the tool rest from now on, for `rest_ms`."""
        now = self._clock.at_ms()
        known = self.circuits.get(tool)
        since = now if known is None else known.since
        circuit = Circuit(
            since=since, until=now + rest_ms, rest_ms=rest_ms, failures=failures, worker=worker,
            error=error[:_MAX_ERROR],
        )  # fmt: skip
        await asyncio.gather(
            self._bus.submit("HSET", self._key, tool, circuit.model_dump_json()),
            self._bus.submit("EXPIRE", self._key, max(CIRCUITS_TTL_S, rest_ms // 500)),
        )
        self.circuits = {**self.circuits, tool: circuit}

    async def close(self, tool: str) -> bool:
        """Let the tool be called again; False where it did not rest."""
        closed = await self._bus.call("HDEL", self._key, tool)
        self.circuits = {name: circuit for name, circuit in self.circuits.items() if name != tool}
        return bool(closed)
