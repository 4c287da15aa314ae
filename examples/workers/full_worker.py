"""A tool worker at the full level of the stream contract, with redis-py and the published scripts, and nothing else.

It says each second that it lives, claims a call before it starts it, stores the result before it sends it, keeps a
long call, hears of cancels, and takes over what dead workers leave. Where Redis is lost it ends with status 1, and
whoever runs it starts it again; others take over what it had. docs/contract.md says what travels, docs/contract has the
scripts.

    REDIS_URL=redis://127.0.0.1:6379/0 python full_worker.py
"""

import json
import os
import secrets
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis

QUEUE, CONCURRENCY = "depot", 4
# The id of this incarnation. Its form promises heartbeats.
NAME = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
PREFIX = os.environ.get("VOICEBUS_STREAM_PREFIX", "vb")
STREAM, DEAD = f"{PREFIX}:tools:{{{QUEUE}}}", f"{PREFIX}:dead:{{{QUEUE}}}"
CONTROL, REGISTRY = f"{PREFIX}:control:{{{NAME}}}", f"{PREFIX}:registry:tools"
GROUP, DAY = "workers", 24 * 3600
BEAT_TTL, ALIVE_MS, RENEW_EVERY = 5, 2_500, 10.0

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), decode_responses=True)
SCRIPTS = Path(os.environ.get("VOICEBUS_SCRIPTS", Path(__file__).parents[2] / "docs" / "contract"))
beat, claim, renew, finish, handback, register = (
    client.register_script((SCRIPTS / f"{name}.lua").read_text())
    for name in ("beat", "claim", "renew", "finish", "handback", "register")
)


def stock(cancelled: threading.Event, item: str) -> str:
    """Tell how much of an item is in the depot."""
    return f"{len(item) * 10} {item} in stock"


def stocktake(cancelled: threading.Event, seconds: float) -> str:
    """Count everything, which takes a while."""
    return "stopped" if cancelled.wait(seconds) else "everything is there"


def schema(**properties: str) -> dict:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


TOOLS = {"stock": (stock, schema(item="string")), "stocktake": (stocktake, schema(seconds="number"))}

stop, resting = threading.Event(), threading.Event()
running: dict[tuple[str, str], threading.Event] = {}
turn = threading.Condition()


def now_ms() -> int:
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds // 1000


def lives(worker: str) -> bool:
    left = client.pttl(f"{PREFIX}:worker:{{{worker}}}")
    return left > BEAT_TTL * 1000 - ALIVE_MS


# --- being there ----------------------------------------------------------------------------------


def ends(error: redis.RedisError) -> None:
    print(f"worker ends: {error}", flush=True)
    os._exit(1)


def kept(work: Callable[..., None], *arguments: object) -> threading.Thread:
    """Do `work` in a thread, for as long as there is a worker: without its heartbeats, say, this one is none."""

    def working() -> None:
        try:
            work(*arguments)
        except redis.RedisError as error:
            ends(error)

    thread = threading.Thread(target=working)
    thread.start()
    return thread


def keep_beating(ended: threading.Event) -> None:
    """From a thread of its own, so that nothing else keeps it; until the last call has been answered."""
    fields = ["queues", json.dumps([QUEUE]), "tools", json.dumps(sorted(TOOLS)), "concurrency", str(CONCURRENCY)]
    while True:
        beat(keys=[f"{PREFIX}:worker:{{{NAME}}}"], args=[BEAT_TTL, *fields])
        if ended.wait(1):
            break
    client.delete(f"{PREFIX}:worker:{{{NAME}}}")


def registered(*, offers: bool) -> None:
    """Put this worker among those that offer each tool, or take it out; others change the same value meanwhile."""
    for name, (function, parameters) in TOOLS.items():
        while True:
            read = client.hget(REGISTRY, name) or ""
            known = json.loads(read) if read else {}
            workers = set(known.get("workers", ())) - {NAME}
            value = {
                **known,
                "name": name, "description": function.__doc__, "parameters": parameters, "queue": QUEUE,
                "version": "1", "timeout_ms": 120_000, "idempotent": name == "stock", "needs_approval": False,
                "workers": sorted(workers | ({NAME} if offers else set())), "at": now_ms(),
            }  # fmt: skip
            if register(keys=[REGISTRY], args=[name, read, json.dumps(value)]):
                break


def keep_registered() -> None:
    while not stop.wait(10):
        registered(offers=True)


def listen() -> None:
    """Cancels come on the control stream."""
    last = "0"
    while not stop.is_set():
        for _, entries in client.xread({CONTROL: last}, block=500) or ():
            for entry_id, fields in entries:
                last = entry_id
                if fields.get("type") == "tool.cancel":
                    event = running.get((fields["session"], json.loads(fields["data"])["call_id"]))
                    if event is not None:
                        event.set()


# --- calls ----------------------------------------------------------------------------------------


def send(fields: dict, call: dict, kind: str, data: dict, *, reply_to: str = "", epoch: str = "") -> None:
    entry = {
        "v": "1", "id": uuid.uuid4().hex, "type": kind, "session": fields["session"],
        "epoch": epoch or fields["epoch"], "at": str(now_ms()), "data": json.dumps(data),
    }  # fmt: skip
    if "traceparent" in fields:
        entry["traceparent"] = fields["traceparent"]
    client.xadd(reply_to or call["reply_to"], entry)
    client.expire(reply_to or call["reply_to"], DAY)


def store_and_send(fields: dict, call: dict, result: dict) -> None:
    """Stored first: if this process dies before the answer is sent, another sends what is stored."""
    result = {"call_id": call["call_id"], "error": None, "worker": NAME, "duration_ms": 0, **result}
    key = f"{PREFIX}:call:{{{QUEUE}}}:{fields['session']}:{call['call_id']}"
    _, stored, reply_to, epoch = finish(keys=[key, STREAM], args=[NAME, json.dumps(result), DAY, GROUP, ""])
    send(fields, call, "tool.result", json.loads(stored), reply_to=reply_to, epoch=epoch)


def dead_letter(entry_id: str, fields: dict, reason: str, error: str) -> None:
    about = {"reason": reason, "error": error, "deliveries": "1", "origin": f"{STREAM}/{entry_id}"}
    client.xadd(DEAD, {**fields, **about}, maxlen=100_000, approximate=True)
    client.xack(STREAM, GROUP, entry_id)


def see_to(entry_id: str, fields: dict, lost: str) -> None:
    """Handle an entry; one that cannot be read, or answered, must not stay with this worker for ever."""
    try:
        handle(entry_id, fields, lost)
    except (redis.ConnectionError, redis.TimeoutError):
        raise
    except Exception as error:
        dead_letter(entry_id, fields, "malformed", repr(error))


def handle(entry_id: str, fields: dict, lost: str) -> None:
    """See an entry through; `lost` is the dead worker that had it, '*' one without heartbeats, '' nobody."""
    if fields.get("v") != "1":
        dead_letter(entry_id, fields, "unsupported_version", f"version {fields.get('v')}")
        return
    call = json.loads(fields["data"])
    if call["tool"] not in TOOLS and call.get("hops", 0) < 3:
        copy = {**fields, "data": json.dumps({**call, "hops": call.get("hops", 0) + 1})}
        resting.set()  # so that another one reads it
        handback(keys=[STREAM], args=[GROUP, entry_id, *(text for pair in copy.items() for text in pair)])
        return
    if call["tool"] not in TOOLS:
        error = {"kind": "unknown_tool", "message": f"no worker of {QUEUE} has {call['tool']}"}
        store_and_send(fields, call, {"outcome": "error", "output": "There is no such tool.", "error": error})
        client.xack(STREAM, GROUP, entry_id)
        return
    key = f"{PREFIX}:call:{{{QUEUE}}}:{fields['session']}:{call['call_id']}"
    mine, cancelled = (fields["session"], call["call_id"]), threading.Event()
    with turn:  # a copy of what runs here waits for its result: `claim` would let the runner start it again
        turn.wait_for(lambda: mine not in running)
        running[mine] = cancelled
    try:
        while True:
            idempotent = int(bool(call.get("idempotent")))
            arguments = [NAME, fields["epoch"], call["reply_to"], fields.get("deadline", ""), idempotent, DAY, lost]
            status, detail = claim(keys=[key], args=arguments)
            if status != "running" or lives(detail):
                break
            lost = detail  # it was started by one that is dead
        if status == "start":
            run(entry_id, key, fields, call, cancelled)
        elif status == "finished":
            send(fields, call, "tool.result", json.loads(detail))
        elif status in ("cancelled", "expired", "unknown"):
            store_and_send(fields, call, {"outcome": status, "output": f"The outcome of the tool is: {status}."})
    finally:
        with turn:
            del running[mine]
            turn.notify_all()
    client.xack(STREAM, GROUP, entry_id)


def run(entry_id: str, key: str, fields: dict, call: dict, cancelled: threading.Event) -> None:
    function, _ = TOOLS[call["tool"]]
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(RENEW_EVERY):
            renew(keys=[key, STREAM], args=[NAME, GROUP, entry_id, DAY])

    keeper = kept(keep)
    began = time.monotonic()
    try:
        send(fields, call, "tool.started", {"call_id": call["call_id"], "worker": NAME})
        result = {"outcome": "ok", "output": function(cancelled, **json.loads(call["arguments"]))}
    except Exception as error:
        failure = {"kind": "raised", "message": repr(error)}
        result = {"outcome": "error", "output": f"It failed: {error}", "error": failure}
    finally:
        ended.set()
        keeper.join()
    if cancelled.is_set():
        result = {"outcome": "cancelled", "output": "The call was cancelled."}
    store_and_send(fields, call, {**result, "duration_ms": round((time.monotonic() - began) * 1000)})


def abandoned() -> list[tuple[str, dict, str]]:
    """An entry of a worker that is dead, now this one's: at once where it promised heartbeats, else after 30 s."""
    for consumer in client.xinfo_consumers(STREAM, GROUP):
        name = consumer["name"]
        if name == NAME or not consumer["pending"] or lives(name):
            continue
        promised = name.count("-") >= 2 and len(name.rpartition("-")[2]) == 6
        rest = 250 if promised else 30_000
        pending = client.xpending_range(STREAM, GROUP, "-", "+", 1, consumername=name, idle=rest)
        if pending:
            ids = [row["message_id"] for row in pending]
            for entry_id, fields in client.xclaim(STREAM, GROUP, NAME, rest, ids):
                return [(entry_id, fields, name if promised else "*")]
    return []


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ended = threading.Event()
    beating = kept(keep_beating, ended)
    try:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    registered(offers=True)
    others = [kept(work) for work in (keep_registered, listen)]
    room = threading.Semaphore(CONCURRENCY)

    def done(future) -> None:
        room.release()
        if isinstance(future.exception(), redis.RedisError):
            ends(future.exception())
        if future.exception() is not None:
            print(f"a call could not be handled: {future.exception()!r}", flush=True)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        while not stop.is_set():
            if not room.acquire(timeout=0.5):
                continue
            if resting.is_set():
                resting.clear()
                stop.wait(0.1)
            reply = client.xreadgroup(GROUP, NAME, {STREAM: ">"}, count=1, block=250)
            work = [(*entry, "") for entry in reply[0][1]] if reply else abandoned()
            if not work:
                room.release()
            for entry_id, fields, lost in work:
                pool.submit(see_to, entry_id, fields, lost).add_done_callback(done)
        registered(offers=False)  # and what is in hand is finished
    for thread in others:
        thread.join()
    if not client.xpending_range(STREAM, GROUP, "-", "+", 1, consumername=NAME):
        client.xgroup_delconsumer(STREAM, GROUP, NAME)
    ended.set()
    beating.join()


if __name__ == "__main__":
    try:
        main()
    except redis.RedisError as error:
        ends(error)
