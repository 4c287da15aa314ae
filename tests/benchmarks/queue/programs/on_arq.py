"""arq; worker and caller poll every 2 ms, as its default (500 ms) would tell nothing."""

import asyncio
import os
from typing import ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from measuring import arguments, at_once, one_by_one, run

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])


async def no_op(_: dict) -> str:
    return "ok"


class WorkerSettings:
    functions: ClassVar = [no_op]
    redis_settings = SETTINGS
    poll_delay = 0.002
    max_jobs = 200
    keep_result = 600


async def drive(role: str, count: int) -> None:
    pool = await create_pool(SETTINGS)
    sent = []

    async def call(_: int) -> None:
        job = await pool.enqueue_job("no_op")
        await job.result(timeout=60, poll_delay=0.002)

    async def send() -> None:
        for _ in range(0, count, 100):
            sent.extend(await asyncio.gather(*(pool.enqueue_job("no_op") for _ in range(100))))

    async def answered() -> None:
        await asyncio.gather(*(job.result(timeout=600, poll_delay=0.05) for job in sent[-100:]))

    await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))
    await pool.aclose()


if __name__ == "__main__":
    given = arguments()
    run(drive(given.role, given.count))
