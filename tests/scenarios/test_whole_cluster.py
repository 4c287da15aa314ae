"""Whole clusters of real processes: many calls at once, and what a caller notices when a worker is gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.callers import Caller, calling, fetch, transcript
from support.cluster import ClusterUnderTest, running_cluster
from support.waiting import wait_until

TARGETS = ("support.hotline",)
CALLS = 50

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]


async def hold_one_call(number: int, gateway_url: str) -> tuple[str, list[tuple[str, str]]]:
    """A spoken turn, a spoken turn with a tool, a typed one with two tools; returns session and recorded lines."""
    async with calling(gateway_url) as caller:
        await caller.says(f"caller {number} asks [[say: hello {number}]]")
        await caller.hears(f"hello {number}")
        await caller.says(f'then {number} [[call: where {{"word": "w{number}"}}]]')
        await caller.hears(f"w{number} from process")
        await caller.types(
            f'typed {number} [[call: where {{"word": "x{number}"}}]] [[call: quick {{"word": "y{number}"}}]]'
        )
        answer = await caller.hears(f"quick y{number}")
        assert f"x{number} from process" in answer["text"], "both results come in one answer"
        await caller.hangs_up()
        assert [event["seq"] for event in caller.events] == sorted(event["seq"] for event in caller.events)
        return caller.session, caller.lines()


@dataclass(frozen=True)
class Truth:
    """What the simulated model says of one conversation: what was said and heard, and what its functions returned."""

    lines: list[tuple[str, str]]
    outputs: list[str]


def truths(ledger: list[dict[str, Any]]) -> dict[str, Truth]:
    """The simulator's ledger by the id of each conversation's first item."""
    roles = {"user": "user", "agent": "assistant"}
    return {
        entry["lines"][0]["item_id"]: Truth(
            [(roles[line["speaker"]], line["text"]) for line in entry["lines"] if line["speaker"] in roles],
            [line["text"] for line in entry["lines"] if line["speaker"] == "tool"],
        )
        for entry in ledger
        if entry["lines"]
    }


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_fifty_calls_at_once_are_archived_line_by_line_as_they_were_said_and_heard(
    database: str, redis_url: str, postgres_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    async with running_cluster(
        redis_url=redis_url,
        database_url=postgres_url if database == "postgresql" else f"sqlite:///{tmp_path / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=TARGETS,
        gateways=2,
        tool_workers=3,
        guardrail_workers=2,
        archivers=2,
        simulator=("--ledger",),
    ) as cluster:
        gateways = [service.url for service in cluster.services["gateway"]]
        held = await asyncio.gather(*(hold_one_call(number, gateways[number % 2]) for number in range(CALLS)))
        truth = truths((await fetch(f"{cluster.simulator.url}/ledger"))["data"])
        assert len(truth) == CALLS
        pids = {service.pid for service in cluster.services["tool-worker"]}
        used: set[int] = set()
        for session, recorded in held:
            archived = await transcript(cluster.archiver.url, session)
            assert archived["gaps"] == []
            messages = [item for item in archived["items"] if item["type"] == "message"]
            lines = [(item["role"], item["text"]) for item in messages]
            assert lines == recorded
            said = truth[messages[0]["item_id"]]
            assert lines == said.lines
            calls = [item for item in archived["items"] if item["type"] == "tool_call"]
            assert sorted(item["output"] for item in calls) == sorted(said.outputs)
            assert [item["outcome"] for item in calls] == ["ok"] * 3
            used |= {int(item["output"].rpartition(" ")[2]) for item in calls if item["tool"] == "where"}
        assert used <= pids, "tools ran in tool-worker processes only"
        assert len(used) > 1, "the calls were shared out"


OneCall = Callable[..., AbstractAsyncContextManager[tuple[ClusterUnderTest, Caller]]]


@pytest.fixture
def one_call(redis_url: str, stream_prefix: str, tmp_path: Path) -> OneCall:
    """A cluster with one of each, and a caller of it; arguments are further ones of `running_cluster`."""

    @asynccontextmanager
    async def held(**more: Any) -> AsyncIterator[tuple[ClusterUnderTest, Caller]]:
        database = f"sqlite:///{tmp_path / 'v.db'}"
        async with (
            running_cluster(
                redis_url=redis_url, database_url=database, stream_prefix=stream_prefix, targets=TARGETS, **more
            ) as cluster,
            calling(cluster.gateway.url) as caller,
        ):
            yield cluster, caller

    return held


async def start_slow_tool(caller: Caller, seconds: float, folder: Path) -> None:
    """Have the tool `slow` called, and wait until it runs in its worker."""
    started = folder / "started"
    arguments = json.dumps({"seconds": seconds, "started": str(started)})
    await caller.types(f"wait [[call: slow {arguments}]]")
    await wait_until(started.exists, description="the tool to run")


async def ask_quick(caller: Caller, word: str) -> None:
    await caller.types(f'ask [[call: quick {{"word": "{word}"}}]]')


async def test_a_stopped_tool_worker_is_an_error_answer_and_a_new_one_serves_the_next_call(one_call: OneCall) -> None:
    async with one_call() as (cluster, caller):
        await ask_quick(caller, "one")
        await caller.hears("quick one")
        await cluster.stop(cluster.services["tool-worker"][0])
        await ask_quick(caller, "two")
        ended = await caller.until(lambda each: each.of("tool_end")[1:], "the call without a worker to end")
        assert ended[0]["outcome"] != "ok"
        await caller.hears(ended[0]["output"])
        await cluster.start("tool-worker")
        await ask_quick(caller, "three")
        await caller.hears("quick three")
        await caller.hangs_up()


async def test_the_answer_to_a_killed_worker_is_heard_and_nothing_hangs(one_call: OneCall, tmp_path: Path) -> None:
    async with one_call(tool_timeout=3) as (cluster, caller):
        await start_slow_tool(caller, 60, tmp_path)
        await cluster.kill(cluster.services["tool-worker"][0])
        ended = await caller.until(lambda each: each.of("tool_end"), "the killed call to end")
        assert ended[0]["outcome"] in ("timeout", "unknown")
        await caller.hears(ended[0]["output"])
        await caller.hangs_up()


async def test_a_forbidden_answer_is_stopped_by_the_guardrail_worker(one_call: OneCall) -> None:
    async with one_call() as (cluster, caller):
        await caller.types("go [[say: this is forbidden]]")
        tripped = await caller.until(lambda each: each.of("guardrail_tripped"), "the guardrail to trip")
        assert tripped[0]["guardrails"] == ["nothing_forbidden"]
        await caller.hangs_up()
        archived = await transcript(cluster.archiver.url, caller.session)
        assert any(item["type"] == "guardrail" for item in archived["items"])


async def test_a_handoff_passes_the_conversation_on(one_call: OneCall) -> None:
    async with one_call() as (_, caller):
        await caller.types("go [[call: transfer_to_second {}]]")
        handed = await caller.until(lambda each: each.of("handoff"), "the handoff")
        assert (handed[0]["from_agent"], handed[0]["to_agent"]) == ("first", "second")
        await caller.hears("second")
        await caller.types('more [[call: where {"word": "after"}]]')
        await caller.hears("after from process")
        await caller.hangs_up()


async def test_sigterm_lets_a_tool_worker_finish_what_it_has(one_call: OneCall, tmp_path: Path) -> None:
    async with one_call() as (cluster, caller):
        await start_slow_tool(caller, 1.5, tmp_path)
        await cluster.stop(cluster.services["tool-worker"][0])
        await caller.hears("slept 1.5 s")
        await caller.hangs_up()
