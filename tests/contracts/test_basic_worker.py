"""A worker of another team, at the basic level of the contract: plain redis-py, nothing of ours.

XREADGROUP, XADD `tool.result` to `reply_to`, XACK: that is all it takes.
"""

import json
import threading
import uuid
from collections.abc import Iterator

import pytest
import redis

from support.tool_calls import calling
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import Outcome


def basic_worker(url: str, stream: str, stop: threading.Event) -> None:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        try:
            client.xgroup_create(stream, "workers", id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        while not stop.is_set():
            reply: list[tuple[str, list[tuple[str, dict[str, str]]]]] = client.xreadgroup(
                "workers", "plain-worker", {stream: ">"}, count=1, block=100
            )
            for _, entries in reply or []:
                for entry_id, fields in entries:
                    call = json.loads(fields["data"])
                    seconds, microseconds = client.time()
                    result = {
                        "call_id": call["call_id"], "outcome": "ok", "worker": "plain-worker", "duration_ms": 1,
                        "output": "Hello " + json.loads(call["arguments"])["name"], "error": None,
                    }  # fmt: skip
                    answer = {
                        "v": "1", "id": uuid.uuid4().hex, "type": "tool.result", "session": fields["session"],
                        "epoch": fields["epoch"], "at": str(seconds * 1000 + microseconds // 1000),
                        "data": json.dumps(result),
                    }  # fmt: skip
                    client.xadd(call["reply_to"], answer)
                    client.xack(stream, "workers", entry_id)


@pytest.fixture
def outsider(redis_url: str, stream_prefix: str) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=basic_worker, args=(redis_url, Keys(stream_prefix).tools("greetings"), stop))
    thread.start()
    yield
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.usefixtures("outsider")
async def test_a_worker_in_plain_redis_answers_calls(redis_url: str, stream_prefix: str) -> None:
    async with calling(redis_url, Keys(stream_prefix)) as caller:
        caller.call("greet", '{"name": "Ada"}', queue="greetings")
        result = await caller.result()
    assert (result.outcome, result.output, result.worker) == (Outcome.OK, "Hello Ada", "plain-worker")
