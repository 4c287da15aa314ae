"""Commands to a Redis Cluster: what is given while one pipeline is under way leaves with the next.

redis-py's cluster client sends each part to its node and follows moved slots.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis import exceptions as vendor
from redis.crc import key_slot

from voicebus.adapters.redis.clustered import StreamCluster, key_of
from voicebus.adapters.redis.replies import Refuse, Reply

_BATCH: Final = 256

_Queued = tuple[Sequence[Any], dict[str, Any], Reply]


class Pipelines:
    """Sends commands through `client`, a pipeline for each master, so that one that hangs holds up its own alone.

    Those about one key leave in order. `refuse` hands the vendor's error to whoever waits for a reply, after at most
    `timeout_s`.
    """

    def __init__(self, client: StreamCluster, refuse: Refuse, *, timeout_s: float) -> None:
        self._client = client
        self._refuse = refuse
        self._timeout_s = timeout_s
        self._pipelines: dict[str, _Pipeline] = {}
        # By slot. Never changed, as what goes two ways may overtake: one that is moved later goes on with its former
        # master's, and may be held up by either.
        self._lanes: dict[int, str] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pipelines.values()))

    def lane(self, key: str) -> str:
        """Which of the pipelines takes commands about this key; "" as long as nobody knows its master."""
        slot = key_slot(key.encode("utf-8", "replace"))
        lane = self._lanes.get(slot)
        if lane is None:
            lane = self._client.master_of(key)
            if lane:
                self._lanes[slot] = lane
        return lane

    def submit(self, command: Sequence[Any], options: dict[str, Any], reply: Reply) -> None:
        """Queue one command; never blocks."""
        key = key_of(command)
        lane = self.lane(key) if key else ""
        pipeline = self._pipelines.get(lane)
        if pipeline is None:
            pipeline = self._pipelines[lane] = _Pipeline(self._client, self._refuse, timeout_s=self._timeout_s)
        pipeline.submit(command, options, reply)

    def defer(self, work: Callable[[], None]) -> None:
        """Have `work` done in the next turn of the event loop: what it submits leaves with what is submitted there."""
        asyncio.get_running_loop().call_soon(work)

    async def aclose(self, error: Exception) -> None:
        """End; commands without a reply fail with `error`."""
        await asyncio.gather(*(pipeline.aclose(error) for pipeline in self._pipelines.values()))


class _Pipeline:
    """Sends commands in order, those that come while others are under way as one."""

    def __init__(self, client: StreamCluster, refuse: Refuse, *, timeout_s: float) -> None:
        self._refuse = refuse
        self._client: Any = client
        self._timeout_s = timeout_s
        # Bounded by its callers: each waits for its own answers.
        self._queued: deque[_Queued] = deque()
        self._under_way: list[_Queued] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queued)

    def submit(self, command: Sequence[Any], options: dict[str, Any], reply: Reply) -> None:
        self._queued.append((command, options, reply))
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="redis-pipeline")

    async def aclose(self, error: Exception) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, _, reply in (*self._under_way, *self._queued):
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
                for (_, _, future), reply in zip(batch, replies, strict=True):
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
                command, options, _ = batch[0]
                return [await self._client.execute_command(*command, **options)]
            async with self._client.pipeline(transaction=False) as pipeline:
                for command, options, _ in batch:
                    pipeline.execute_command(*command, **options)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
                return replies
