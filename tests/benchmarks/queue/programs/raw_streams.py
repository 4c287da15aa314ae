"""The lower bound: redis-py on streams and nothing else; no claim, no result kept, no heartbeat, no retry.

Calls and answers have the fields that ours have, so that the same bytes travel. As a worker `RAW_PIPELINED=1` answers
and acknowledges everything that was read in one pipeline.
"""

import json
import os
import time
import uuid

import redis.asyncio as redis
from measuring import arguments, at_once, one_by_one, run

STREAM, GROUP, REPLIES = "raw:calls", "workers", "raw:replies"


def call_entry(number: int, reply_to: str) -> dict[str, str]:
    call = {
        "call_id": f"call_{number}", "tool": "no_op", "arguments": "{}", "agent": "bench", "reply_to": reply_to,
        "attempt": 1, "hops": 0, "idempotent": False, "context": {},
    }  # fmt: skip
    return entry("tool.call", "session", call)


def answer_entry(fields: dict[str, str]) -> tuple[str, dict[str, str]]:
    call = json.loads(fields["data"])
    result = {
        "call_id": call["call_id"], "outcome": "ok", "output": "ok", "error": None, "worker": "one", "duration_ms": 0,
    }  # fmt: skip
    return call["reply_to"], entry("tool.result", fields["session"], result)


def entry(kind: str, session: str, data: dict[str, object]) -> dict[str, str]:
    now = int(time.time() * 1000)
    return {
        "v": "1", "id": uuid.uuid4().hex, "type": kind, "session": session, "epoch": "1", "at": str(now),
        "deadline": str(now + 600_000), "data": json.dumps(data),
    }  # fmt: skip


async def work(url: str) -> None:
    bus = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)
    try:
        await bus.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    pipelined = os.environ.get("RAW_PIPELINED") == "1"
    while True:
        for _, entries in await bus.xreadgroup(GROUP, "one", {STREAM: ">"}, count=200, block=1000) or ():
            if pipelined:
                async with bus.pipeline(transaction=False) as pipeline:
                    for entry_id, fields in entries:
                        reply_to, answer = answer_entry(fields)
                        pipeline.xadd(reply_to, answer)
                        pipeline.xack(STREAM, GROUP, entry_id)
                    await pipeline.execute()
                continue
            for entry_id, fields in entries:
                reply_to, answer = answer_entry(fields)
                await bus.xadd(reply_to, answer)
                await bus.xack(STREAM, GROUP, entry_id)


async def drive(role: str, url: str, count: int) -> None:
    bus = redis.Redis.from_url(url, decode_responses=True, socket_timeout=None)
    replies = f"{REPLIES}:{uuid.uuid4().hex}"
    last = "0"

    async def next_replies() -> int:
        nonlocal last
        got = 0
        for _, entries in await bus.xread({replies: last}, count=500, block=5000) or ():
            last = entries[-1][0]
            got += len(entries)
        return got

    async def call(number: int) -> None:
        await bus.xadd(STREAM, call_entry(number, replies))
        await next_replies()

    async def send() -> None:
        for start in range(0, count, 200):
            async with bus.pipeline(transaction=False) as pipeline:
                for number in range(start, min(count, start + 200)):
                    pipeline.xadd(STREAM, call_entry(number, replies))
                await pipeline.execute()

    async def answered() -> None:
        got = 0
        while got < count:
            got += await next_replies()

    try:
        await (one_by_one(call, count) if role == "low" else at_once(send, answered, count))
    finally:
        await bus.delete(replies)
        await bus.aclose()


if __name__ == "__main__":
    given = arguments()
    run(work(given.url) if given.role == "work" else drive(given.role, given.url, given.count))
