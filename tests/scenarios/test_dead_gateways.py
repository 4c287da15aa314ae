"""A gateway that dies in the middle of conversations: each goes on at another one, and nothing is lost or doubled."""

import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.callers import Caller, calling, transcript
from support.cluster import ClusterUnderTest, running_cluster
from support.cutting_proxy import cutting_proxy

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]

TARGETS = ("support.emergency_desk",)


def call(tool: str, **arguments: Any) -> str:
    return f"[[call: {tool} {json.dumps(arguments)}]]"


async def archived(cluster: ClusterUnderTest, caller: Caller) -> dict[str, Any]:
    """The transcript of a call that has ended; it has every record of it, and each once."""
    found = await transcript(cluster.archiver.url, caller.session)
    assert found["gaps"] == []
    said = [item["item_id"] for item in found["items"] if item["type"] == "message"]
    assert [each for each, count in Counter(said).items() if count > 1] == []
    lines = {item["item_id"]: (item["role"], item["text"]) for item in found["items"] if item["type"] == "message"}
    # What was told in the last moment of a gateway's life, and not written, is told again.
    assert lines == {event["item_id"]: (event["role"], event["text"]) for event in caller.of("item_recorded")}
    return found


async def test_calls_go_on_when_their_gateway_is_killed(redis_url: str, stream_prefix: str, tmp_path: Path) -> None:
    booked, paid = tmp_path / "booked", tmp_path / "paid"
    async with (
        running_cluster(
            redis_url=redis_url,
            database_url=f"sqlite:///{tmp_path / 'v.db'}",
            stream_prefix=stream_prefix,
            targets=TARGETS,
            gateways=2,
            simulator=("--pace", "3"),
            guardrail_workers=0,
        ) as cluster,
        AsyncExitStack() as stack,
    ):
        doomed, other = cluster.services["gateway"]
        assert doomed.http_port is not None
        assert other.http_port is not None
        way = await stack.enter_async_context(cutting_proxy(doomed.http_port))
        url = f"http://127.0.0.1:{way.port}"

        async def caller() -> Caller:
            return await stack.enter_async_context(calling(url))

        idle, listening, waiting, asked, handed = [await caller() for _ in range(5)]
        await idle.types("[[say: I am here.]]")
        await idle.hears("I am here.")
        story = " ".join(f"word{number}" for number in range(20))
        await listening.types(f"[[say: {story}]]")
        await listening.until(lambda each: each.audio, "the answer to begin")
        await waiting.types(f"book it {call('book', notes=str(booked), seconds=4)}")
        await waiting.until(lambda each: each.of("tool_start") and booked.exists(), "the tool to run")
        await asked.types(f"pay it {call('pay', notes=str(paid))}")
        required = await asked.until(lambda each: each.of("tool_approval_required"), "the question")
        await handed.types("to the other one [[call: transfer_to_second {}]]")
        await handed.until(lambda each: each.of("handoff"), "the handoff")

        way.target = other.http_port
        await cluster.kill(doomed)

        for each in (idle, listening, waiting, asked, handed):
            await each.until(lambda one: one.of("model_reconnected"), "the session to go on")
        await idle.types("and now? [[say: I am still here.]]")
        await idle.hears("I am still here.")
        again = await listening.hears("word19")
        assert again["truncated"] is False
        await waiting.hears("it is booked")
        await asked.conversation.command("approve", call_id=required[0]["call_id"])
        await asked.hears("it is paid")
        await handed.types("who is it? [[say: the second one]]")
        last = await handed.hears("the second one")
        assert last["agent"] == "second"
        for each in (idle, listening, waiting, asked, handed):
            await each.hangs_up()
            await archived(cluster, each)
        assert booked.read_text() == "booked\n"
        assert paid.read_text() == "paid\n"
