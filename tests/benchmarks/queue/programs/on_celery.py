"""Celery on Redis, acknowledging late and with results; its prefork pool of one process."""

import os

from celery import Celery
from measuring import arguments, at_once, one_by_one, run

URL = os.environ["BENCH_REDIS_URL"]
app = Celery("on_celery", broker=URL, backend=URL)
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=200, broker_connection_retry_on_startup=True, result_expires=600
)


@app.task(name="no_op")
def no_op() -> str:
    return "ok"


async def drive(role: str, count: int) -> None:
    sent = []

    async def call(_: int) -> None:
        no_op.delay().get(timeout=60)

    async def send() -> None:
        sent.extend(no_op.delay() for _ in range(count))

    async def answered() -> None:
        for result in sent[-100:]:
            result.get(timeout=600)

    await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))


if __name__ == "__main__":
    given = arguments()
    run(drive(given.role, given.count))
