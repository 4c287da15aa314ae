"""docket (pydocket): the worker of its command line; an execution is awaited by its own means."""

import asyncio
import os
from datetime import timedelta

from docket import Docket, Worker
from measuring import arguments, at_once, one_by_one, run

URL = os.environ["BENCH_REDIS_URL"]


async def no_op() -> str:
    return "ok"


async def work() -> None:
    async with Docket(name="bench", url=URL) as docket:
        docket.register(no_op)
        async with Worker(docket, concurrency=20, minimum_check_interval=timedelta(milliseconds=2)) as worker:
            await worker.run_forever()


async def drive(role: str, count: int) -> None:
    async with Docket(name="bench", url=URL) as docket:
        docket.register(no_op)
        sent = []

        async def call(_: int) -> None:
            execution = await docket.add(no_op)()
            await execution.get_result(timeout=timedelta(seconds=60))

        async def send() -> None:
            for _ in range(0, count, 100):
                sent.extend(await asyncio.gather(*(docket.add(no_op)() for _ in range(100))))

        async def answered() -> None:
            for execution in sent[-100:]:
                await execution.get_result(timeout=timedelta(seconds=600))

        await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))


if __name__ == "__main__":
    given = arguments()
    run(work() if given.role == "work" else drive(given.role, given.count))
