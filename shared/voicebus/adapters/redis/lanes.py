"""Work that is done for each server of Redis by itself, so that one that hangs holds up its own alone."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Runs(Protocol):
    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def holds(self, key: str) -> bool:
        """Whether something about this key may be under way here, which what comes next must not overtake."""
        ...


RunsT = TypeVar("RunsT", bound=Runs)


class Lanes(Generic[RunsT]):
    """One that works for each lane (`RedisConnection.lane`), made by `make` when it is first asked for."""

    def __init__(self, make: Callable[[], RunsT], *, name: str) -> None:
        self._make = make
        self._name = name
        self._lanes: dict[str, RunsT] = {}
        self._another = asyncio.Event()

    def __iter__(self) -> Iterator[RunsT]:
        return iter(self._lanes.values())

    def of(self, lane: str, key: str) -> RunsT:
        """The one of this lane for what is about `key`; another one for as long as that has something about it."""
        for one in self._lanes.values():
            if one.holds(key):
                return one
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = self._make()
            self._another.set()
        return found

    async def run(self) -> None:
        """Have all work until cancelled."""
        running: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for lane in self._lanes.keys() - running:
                    running.add(lane)
                    group.create_task(self._lanes[lane].run(), name=f"{self._name} {lane}")
                self._another.clear()
                await self._another.wait()
