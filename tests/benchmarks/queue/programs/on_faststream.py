"""FastStream on Redis streams in a consumer group; answers go to a stream of the caller's."""

import asyncio
import os
import uuid

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from measuring import arguments, at_once, one_by_one, run

URL = os.environ["BENCH_REDIS_URL"]
broker = RedisBroker(URL, logger=None)
app = FastStream(broker, logger=None)


@broker.subscriber(stream=StreamSub("calls", group="workers", consumer="one", max_records=200), max_workers=1)
async def no_op(body: dict) -> None:
    await broker.publish({"call": body["call"], "output": "ok"}, stream=body["reply_to"])


async def drive(role: str, url: str, count: int) -> None:
    import redis.asyncio as redis

    bus = redis.Redis.from_url(url, socket_timeout=None)
    replies, last = f"replies:{uuid.uuid4().hex}", "0"

    async def heard() -> int:
        nonlocal last
        got = 0
        for _, entries in await bus.xread({replies: last}, count=500, block=5000) or ():
            last = entries[-1][0]
            got += len(entries)
        return got

    async def call(number: int) -> None:
        await broker.publish({"call": number, "reply_to": replies}, stream="calls")
        await heard()

    async def send() -> None:
        for start in range(0, count, 100):
            await asyncio.gather(
                *(
                    broker.publish({"call": number, "reply_to": replies}, stream="calls")
                    for number in range(start, start + 100)
                )
            )

    async def answered() -> None:
        got = 0
        while got < count:
            got += await heard()

    await broker.connect()
    await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))
    await bus.aclose()
    await broker.stop()


if __name__ == "__main__":
    given = arguments()
    run(drive(given.role, given.url, given.count))
