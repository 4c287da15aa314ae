"""Commands to a Redis Cluster: what is given while one pipeline is under way leaves with the next.

redis-py's cluster client sends each part to its node and follows moved slots.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis import exceptions as vendor
from redis.crc import key_slot

from voicebus.adapters.redis.clustered import StreamCluster, key_of
from voicebus.adapters.redis.replies import Refuse, Reply

_BATCH: Final = 256

_Queued = tuple[Sequence[Any], dict[str, Any], Reply, int | None]
"""A command, options, where its reply goes, and the slot of its key."""


class Pipelines:
    """Sends commands through `client`, a pipeline for each master, so that one that hangs holds up its own alone.

    Those about one key leave in order: while some about its slot are under way others go the same way, though the slot
    be moved meanwhile, and then that of its new master. `refuse` hands the vendor's error to whoever waits for a reply;
    what is under way has one after at most `timeout_s`, and what waits behind it leaves then.
    """

    def __init__(self, client: StreamCluster, refuse: Refuse, *, timeout_s: float) -> None:
        self._client = client
        self._refuse = refuse
        self._timeout_s = timeout_s
        self._pipelines: dict[str, _Pipeline] = {}
        # By slot, for as long as commands about it are under way: which way they went, and how many those are.
        self._lanes: dict[int, str] = {}
        self._under_way: Counter[int] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._pipelines.values()))

    def lane(self, key: str) -> str:
        """Which of the pipelines takes commands about this key now; "" as long as nobody knows its master."""
        lane = self._lanes.get(_slot(key))
        return self._client.master_of(key) if lane is None else lane

    def submit(self, command: Sequence[Any], options: dict[str, Any], reply: Reply) -> None:
        """Queue one command; never blocks."""
        key = key_of(command)
        lane, slot = "", None
        if key:
            lane, slot = self.lane(key), _slot(key)
            self._lanes[slot] = lane
            self._under_way[slot] += 1
        pipeline = self._pipelines.get(lane)
        if pipeline is None:
            pipeline = _Pipeline(self._client, self._refuse, self._replied, timeout_s=self._timeout_s)
            self._pipelines[lane] = pipeline
        pipeline.submit(command, options, reply, slot)

    def defer(self, work: Callable[[], None]) -> None:
        """Have `work` done in the next turn of the event loop: what it submits leaves with what is submitted there."""
        asyncio.get_running_loop().call_soon(work)

    async def aclose(self, error: Exception) -> None:
        """End; commands without a reply fail with `error`."""
        await asyncio.gather(*(pipeline.aclose(error) for pipeline in self._pipelines.values()))

    def _replied(self, slot: int | None) -> None:
        if slot is None:
            return
        self._under_way[slot] -= 1
        if not self._under_way[slot]:
            del self._under_way[slot], self._lanes[slot]


class _Pipeline:
    """Sends commands in order, those that come while others are under way as one; `replied` hears the slot of each."""

    def __init__(
        self, client: StreamCluster, refuse: Refuse, replied: Callable[[int | None], None], *, timeout_s: float
    ) -> None:
        self._refuse = refuse
        self._replied = replied
        self._client: Any = client
        self._timeout_s = timeout_s
        # Bounded by its callers: each waits for its own answers.
        self._queued: deque[_Queued] = deque()
        self._under_way: list[_Queued] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queued)

    def submit(self, command: Sequence[Any], options: dict[str, Any], reply: Reply, slot: int | None) -> None:
        self._queued.append((command, options, reply, slot))
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="redis-pipeline")

    async def aclose(self, error: Exception) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, _, reply, _ in (*self._under_way, *self._queued):
            self._refuse(reply, error)
        self._queued.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queued:
                batch = [self._queued.popleft() for _ in range(min(_BATCH, len(self._queued)))]
                self._under_way = batch
                hung = False
                try:
                    replies = await self._execute(batch)
                except Exception as error:  # noqa: BLE001 - handed to whoever waits
                    replies = [error] * len(batch)
                    hung = isinstance(error, TimeoutError | vendor.TimeoutError)
                for (_, _, future, slot), reply in zip(batch, replies, strict=True):
                    self._replied(slot)
                    if isinstance(reply, Exception):
                        self._refuse(future, reply)
                    elif not future.done():  # else its caller was cancelled
                        future.set_result(reply)
                self._under_way = []
                if hung:
                    await self._client.look_again(batch[0][0])

    async def _execute(self, batch: list[_Queued]) -> list[Any]:
        async with asyncio.timeout(self._timeout_s):
            if len(batch) == 1:
                command, options, _, _ = batch[0]
                return [await self._client.execute_command(*command, **options)]
            async with self._client.pipeline(transaction=False) as pipeline:
                for command, options, _, _ in batch:
                    pipeline.execute_command(*command, **options)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
                return replies


def _slot(key: str) -> int:
    return int(key_slot(key.encode("utf-8", "replace")))
