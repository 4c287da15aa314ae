"""`vb:registry:tools`: which tools live workers offer, and with which schema (contract section 1)."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
from pydantic import ValidationError

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.heartbeat import living, sends_heartbeats
from voicebus.adapters.redis.scripts import REGISTER
from voicebus.contracts.schemas import binding
from voicebus.contracts.streams import QUEUE_NAME, REGISTRATION_KEPT_S, RESERVED_QUEUES, Keys
from voicebus.contracts.tools import ToolRegistration, version_key
from voicebus.errors import UserError
from voicebus.ports import Clock
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

BASIC_KEPT_S: Final = 300
"""A worker without heartbeats counts as alive for so long after it has registered."""


class _Offered(msgspec.Struct):
    queue: Annotated[str, msgspec.Meta(pattern=rf"^{QUEUE_NAME}\Z")]


_OFFERED: Final = msgspec.json.Decoder(_Offered)


async def offered_queues(bus: RedisConnection, keys: Keys) -> set[str]:
    """The queues of all tools that workers offer, or have offered within a day.

    A registration is written by anybody: one that cannot be read is nobody's queue.

    Raises:
        BusError: Redis cannot be reached.
    """
    found = set()
    for text in await bus.call("HVALS", keys.registry_tools):
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            found.add(_OFFERED.decode(text).queue)
    return found - RESERVED_QUEUES


class ToolRegistry:
    """Reads and writes registrations. A worker publishes at its start and now and then, for as long as it lives."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock
        self._refused: dict[str, str] = {}
        # By tool and version: when it was offered last, where that was far from when it was looked at last.
        self._far: dict[tuple[str, str], int] = {}

    async def publish(self, registration: ToolRegistration, *, worker: str, again: bool = False) -> None:
        """Say that `worker` offers this tool; its heartbeat must beat already. `again`: it has said so before, and
        leaves what another one has said of this version since.

        Raises:
            UserError: another living worker offers a tool of this name in another queue, or with another schema under
                the same version.
            BusError: Redis cannot be reached.
        """
        while True:
            text, known = await self._read(registration.name)
            others = await self._alive(known, without=worker)
            for other in others:
                if not _may_be_exchanged(other, registration):
                    raise UserError(_conflict(other, registration, worker))
            known_as = next((other for other in others if _of_one_version(other, registration)), None)
            peers = [] if known_as is None else known_as.workers
            said, by = registration, worker
            if known_as is not None and again and known_as.by in peers:
                said, by = known_as, known_as.by
            update = {"workers": sorted({*peers, worker}), "by": by, "at": self._clock.at_ms(), "older": []}
            own = said.model_copy(update=update)
            kept = [other for other in others if not _of_one_version(other, registration)]
            if await self._write(registration.name, text, _joined([own, *kept])):
                return

    async def withdraw(self, name: str, *, worker: str) -> None:
        """`worker` offers this tool no more. Its schema stays known, so that it can be told what it was.

        Raises:
            BusError: Redis cannot be reached.
        """
        while True:
            text, known = await self._read(name)
            if known is None or not any(worker in version.workers for version in known.versions):
                return
            left = [
                version.model_copy(update={"workers": [other for other in version.workers if other != worker]})
                for version in known.versions
            ]
            offered = [version for version in left if version.workers]
            if await self._write(name, text, _joined(offered or left[:1])):
                return

    async def tidy(self) -> list[str]:
        """Remove the tools that no living worker has offered for `REGISTRATION_KEPT_S`; returns their names.

        A living worker renews `at` with each `publish`, so that it tells how long a tool has been without any.

        Raises:
            BusError: Redis cannot be reached.
        """
        horizon = self._clock.at_ms() - REGISTRATION_KEPT_S * 1000
        removed = []
        for name in await self._bus.call("HKEYS", self._keys.registry_tools):
            text, known = await self._read(name)
            if known is None or known.at > horizon or await self._alive(known):
                continue
            if await self._bus.script(REGISTER, [self._keys.registry_tools], name, text, ""):
                removed.append(name)
        return removed

    async def lookup(self, names: Iterable[str]) -> dict[str, ToolRegistration]:
        """The registrations of these tools, as far as there are any: of each the newest version that living workers
        offer, with those workers; where there are none the newest that was, without workers.

        Raises:
            BusError: Redis cannot be reached.
        """
        asked = list(names)
        found = await asyncio.gather(*map(self._found, asked))
        return {name: tool for name, tool in zip(asked, found, strict=True) if tool is not None}

    async def listed(self) -> dict[str, ToolRegistration]:
        """Every registered tool, as `lookup` gives it, by name.

        Raises:
            BusError: Redis cannot be reached.
        """
        return await self.lookup(sorted(await self._bus.call("HKEYS", self._keys.registry_tools)))

    async def survey(self) -> dict[str, ToolRegistration]:
        """Every tool that living workers offer, in its newest version, by name. Two round trips, however many.

        Raises:
            BusError: Redis cannot be reached.
        """
        flat = await self._bus.call("HGETALL", self._keys.registry_tools)
        texts: Mapping[str, str] = flat if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=True))
        known = [found for name, text in texts.items() if (found := self._parsed(name, text)) is not None]
        workers = sorted({worker for tool in known for version in tool.versions for worker in version.workers})
        beats = await living(self._bus, [self._keys.worker(worker) for worker in workers])
        beating = dict(zip(workers, beats, strict=True))
        surveyed = {}
        for tool in known:
            alive = self._of_the_living(tool.versions, beating)
            if alive:
                surveyed[tool.name] = alive[0]
        return surveyed

    async def offered(self, name: str, *, version: str | None = None, older: bool = False) -> bool:
        """Whether a living worker offers this tool, in `version` or a newer one; `older`: in an older one.

        Raises:
            BusError: Redis cannot be reached.
        """
        return bool(await self.holders(name, version=version, older=older))

    async def holders(self, name: str, *, version: str | None = None, older: bool = False) -> list[str]:
        """The living workers that offer this tool, in `version` or a newer one; `older`: in an older one.

        Raises:
            BusError: Redis cannot be reached.
        """
        _, known = await self._read(name)
        return [
            worker
            for found in await self._alive(known)
            if version is None or (version_key(found.version) < version_key(version)) is older
            for worker in found.workers
        ]

    async def _found(self, name: str) -> ToolRegistration | None:
        _, known = await self._read(name)
        if known is None:
            return None
        alive = await self._alive(known)
        return _joined(alive) if alive else known.model_copy(update={"workers": [], "older": []})

    async def _read(self, name: str) -> tuple[str, ToolRegistration | None]:
        text = await self._bus.call("HGET", self._keys.registry_tools, name) or ""
        return text, self._parsed(name, text) if text else None

    async def _write(self, name: str, read: str, registration: ToolRegistration) -> bool:
        done = await self._bus.script(REGISTER, [self._keys.registry_tools], name, read, registration.model_dump_json())
        return bool(done)

    def _parsed(self, name: str, text: str) -> ToolRegistration | None:
        try:
            return ToolRegistration.model_validate_json(text)
        except ValidationError as error:
            if self._refused.get(name) != text:  # it is read again and again
                self._refused[name] = text
                first = error.errors(include_url=False, include_input=False)[0]
                why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
                log.warning("registration is malformed and counts for nothing", tool=name, error=why)
            return None

    async def _alive(self, known: ToolRegistration | None, *, without: str | None = None) -> list[ToolRegistration]:
        """The versions that living workers offer, newest first, each with those workers."""
        versions = [] if known is None else known.versions
        workers = sorted({worker for version in versions for worker in version.workers} - {without})
        beats = await living(self._bus, [self._keys.worker(worker) for worker in workers])
        return self._of_the_living(versions, dict(zip(workers, beats, strict=True)))

    def _of_the_living(
        self, versions: Sequence[ToolRegistration], beating: Mapping[str, bool]
    ) -> list[ToolRegistration]:
        now = self._clock.at_ms()
        alive = []
        for version in versions:
            fresh = now - version.at < BASIC_KEPT_S * 1000
            workers = [
                worker
                for worker in version.workers
                if worker in beating and (beating[worker] or (fresh and not sends_heartbeats(worker)))
            ]
            if abs(now - version.at) < BASIC_KEPT_S * 1000:
                self._far.pop((version.name, version.version), None)
            else:
                self._doubt_clock(version, now)
            if workers:
                alive.append(version.model_copy(update={"workers": workers}))
        return alive

    def _doubt_clock(self, version: ToolRegistration, now: int) -> None:
        """Tell of a worker without heartbeats that renews its registration, and by another clock than Redis'."""
        key = version.name, version.version
        before, self._far[key] = self._far.get(key, version.at), version.at
        if before != version.at and version.workers and not any(map(sends_heartbeats, version.workers)):
            log.warning(
                "a tool is registered by another clock than Redis', by which it counts", tool=version.name,
                workers=version.workers, ahead_s=round((version.at - now) / 1000),
            )  # fmt: skip


def _joined(versions: Sequence[ToolRegistration]) -> ToolRegistration:
    newest, *older = sorted(versions, key=lambda version: version_key(version.version), reverse=True)
    return newest.model_copy(update={"older": older})


def _of_one_version(one: ToolRegistration, other: ToolRegistration) -> bool:
    return version_key(one.version) == version_key(other.version)


def _may_be_exchanged(one: ToolRegistration, other: ToolRegistration) -> bool:
    """Whether both can be of one tool: of one schema, or two versions of it."""
    alike = binding(one.parameters) == binding(other.parameters) or not _of_one_version(one, other)
    return alike and one.queue == other.queue


def _conflict(known: ToolRegistration, own: ToolRegistration, worker: str) -> str:
    return (
        f"tool {own.name!r} is offered with two schemas: by worker {known.workers[0]} in queue {known.queue!r} as "
        f"version {known.version}, and by this worker {worker} in queue {own.queue!r} as version {own.version}; rename "
        "one, give a newer schema of the same tool a newer version, or stop the workers of the other first"
    )
