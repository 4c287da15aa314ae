"""A tool worker at the basic level of the stream contract, with redis-py and nothing else.

It reads calls from its queue, answers each, and acknowledges it. It sends no heartbeats: a call that it holds for 30 s
is taken from it, so its tools should be quick. Where Redis is lost it ends with status 1, and whoever runs it starts it
again. docs/contract.md says what travels.

    REDIS_URL=redis://127.0.0.1:6379/0 python basic_worker.py
"""

import json
import os
import signal
import sys
import time
import uuid

import redis

QUEUE = "depot"
NAME = os.environ.get("WORKER", "depot-python")  # the same after a restart; another one for a second process
PREFIX = os.environ.get("VOICEBUS_STREAM_PREFIX", "vb")
STREAM, DEAD = f"{PREFIX}:tools:{{{QUEUE}}}", f"{PREFIX}:dead:{{{QUEUE}}}"
REGISTRY = f"{PREFIX}:registry:tools"
DAY = 24 * 3600


def stock(item: str) -> str:
    """Tell how much of an item is in the depot."""
    return f"{len(item) * 10} {item} in stock"


TOOLS = {"stock": stock}
SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string", "description": "What is asked for."}},
    "required": ["item"],
    "additionalProperties": False,
}

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), decode_responses=True)
stopping = False


def now_ms() -> int:
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds // 1000


def register() -> None:
    """Without heartbeats a registration counts for five minutes, so it is made again each minute."""
    for name, function in TOOLS.items():
        registration = {
            "name": name, "description": function.__doc__, "parameters": SCHEMA, "queue": QUEUE, "version": "1",
            "timeout_ms": 10_000, "idempotent": False, "needs_approval": False, "workers": [NAME], "at": now_ms(),
        }  # fmt: skip
        client.hset(REGISTRY, name, json.dumps(registration))


def answer(fields: dict, call: dict, outcome: str, output: str, error: dict | None = None) -> None:
    result = {
        "call_id": call["call_id"], "outcome": outcome, "output": output, "error": error, "worker": NAME,
        "duration_ms": 0,
    }  # fmt: skip
    entry = {
        "v": "1", "id": uuid.uuid4().hex, "type": "tool.result", "session": fields["session"],
        "epoch": fields["epoch"], "at": str(now_ms()), "data": json.dumps(result),
    }  # fmt: skip
    if "traceparent" in fields:
        entry["traceparent"] = fields["traceparent"]
    client.xadd(call["reply_to"], entry)
    client.expire(call["reply_to"], DAY)


def dead_letter(entry_id: str, fields: dict, reason: str, error: str) -> None:
    about = {"reason": reason, "error": error, "deliveries": "1", "origin": f"{STREAM}/{entry_id}"}
    client.xadd(DEAD, {**fields, **about}, maxlen=100_000, approximate=True)


def handle(entry_id: str, fields: dict, *, again: bool) -> None:
    """See an entry through to its answer; `again`: an earlier run of this process may have begun it."""
    if fields.get("v") != "1":
        dead_letter(entry_id, fields, "unsupported_version", f"this worker reads version 1, not {fields.get('v')}")
        return
    call = json.loads(fields["data"])
    name, arguments = call["tool"], call["arguments"]
    if name not in TOOLS:
        # Somebody else's, of the same queue: back to the group, for three times. The pause lets another one read it.
        if call.get("hops", 0) < 3:
            client.xadd(STREAM, {**fields, "data": json.dumps({**call, "hops": call.get("hops", 0) + 1})})
            time.sleep(0.1)
        else:
            text = f"The tool {name} is not available."
            answer(fields, call, "error", text, {"kind": "unknown_tool", "message": f"no worker of {QUEUE} has {name}"})
    elif again:
        answer(fields, call, "unknown", "It is not known whether the tool took effect.")
    elif "deadline" in fields and now_ms() >= int(fields["deadline"]):
        answer(fields, call, "expired", "The tool was not started in time.")
    else:
        try:
            answer(fields, call, "ok", TOOLS[name](**json.loads(arguments)))
        except Exception as error:
            answer(fields, call, "error", f"It failed: {error}", {"kind": "raised", "message": repr(error)})


def see_to(entry_id: str, fields: dict, *, again: bool) -> None:
    """Handle an entry, and acknowledge it last; one that cannot be read, or answered, must not end the worker."""
    try:
        handle(entry_id, fields, again=again)
    except (redis.ConnectionError, redis.TimeoutError):
        raise
    except Exception as error:
        dead_letter(entry_id, fields, "malformed", repr(error))
    client.xack(STREAM, "workers", entry_id)


def read(since: str) -> list:
    reply = client.xreadgroup("workers", NAME, {STREAM: since}, count=10, block=1000)
    return reply[0][1] if reply else []


def stop(*_: object) -> None:
    global stopping
    stopping = True


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    try:
        client.xgroup_create(STREAM, "workers", id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    for entry_id, fields in read("0"):  # what this name had been given before
        see_to(entry_id, fields, again=True)
    registered = 0.0
    while not stopping:
        if time.monotonic() - registered > 60 or not registered:
            registered = time.monotonic()
            register()
        for entry_id, fields in read(">"):
            see_to(entry_id, fields, again=False)
    client.hdel(REGISTRY, *TOOLS)


if __name__ == "__main__":
    try:
        main()
    except redis.RedisError as error:
        sys.exit(f"worker ends: {error}")
