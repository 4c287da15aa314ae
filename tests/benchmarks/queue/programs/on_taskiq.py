"""taskiq over Redis streams, results in Redis.

Results are polled every 2 ms, as its default (200 ms) would tell nothing.
"""

import asyncio
import os

from measuring import arguments, at_once, one_by_one, run
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = os.environ["BENCH_REDIS_URL"]
broker = RedisStreamBroker(URL, consumer_id="0").with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))


@broker.task(task_name="no_op")
async def no_op() -> str:
    return "ok"


async def drive(role: str, count: int) -> None:
    await broker.startup()
    sent = []

    async def call(_: int) -> None:
        task = await no_op.kiq()
        await task.wait_result(check_interval=0.002, timeout=60)

    async def send() -> None:
        for _ in range(0, count, 100):
            sent.extend(await asyncio.gather(*(no_op.kiq() for _ in range(100))))

    async def answered() -> None:
        # The last ones: the results come in order, more or less.
        await asyncio.gather(*(task.wait_result(check_interval=0.05, timeout=600) for task in sent[-100:]))

    await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))
    await broker.shutdown()


if __name__ == "__main__":
    given = arguments()
    run(drive(given.role, given.count))
