"""WebRTC calls whose gateway dies, sleeps or stops: another gateway goes on with them, although nobody asks it to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio as aioredis

from services.model_simulator.client import Client, connected
from support.callers import transcript
from support.cluster import ClusterUnderTest, Service
from support.two_gateways import two_gateways
from support.waiting import wait_until
from voicebus.contracts.streams import Keys

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


async def place(gateway: Service) -> str:
    """Make a call through a gateway; its id."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
        answer = await http.post("/v1/realtime/calls", content=OFFER, headers={"Content-Type": "application/sdp"})
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"].rpartition("/")[2])


@asynccontextmanager
async def caller(cluster: ClusterUnderTest, call_id: str) -> AsyncIterator[Client]:
    """Whoever is on the call."""
    async with connected(f"ws://127.0.0.1:{cluster.simulator.http_port}/v1/realtime?call_id={call_id}") as client:
        await client.until("session.created")
        yield client


async def says(client: Client, text: str) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await client.send("conversation.item.create", item=item)
    await client.send("response.create")


async def says_until(client: Client, text: str) -> None:
    """Wait until the model has said this on the call."""
    while True:
        if text in json.dumps(await client.until("response.done")):
            return


def book(*notes: Path, seconds: float = 0) -> str:
    """One response that books all of these."""
    calls = "".join(f"[[call: book {json.dumps({'notes': str(each), 'seconds': seconds})}]]" for each in notes)
    return f"{calls}[[next]][[say: {{outputs}}]]"


async def adopted(bus: Any, keys: Keys, call_id: str, epoch: int) -> None:
    """Wait until the next owner is on the call."""
    await recorded(bus, keys, call_id, "model_reconnected", epoch)


async def recorded(bus: Any, keys: Keys, call_id: str, kind: str, epoch: int) -> None:
    """Wait until an event of this kind is written by this owner."""

    async def is_so() -> bool:
        entries: Any = await bus.xrange(keys.events(keys.event_shard(call_id)))
        told = [(fields["session"], fields["type"], fields["epoch"]) for _, fields in entries]
        return (call_id, kind, str(epoch)) in told

    await wait_until(is_so, description=f"{kind} of owner {epoch}", timeout=30)


async def end(cluster: ClusterUnderTest, gateway: Service, call_id: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
        assert (await http.post(f"/v1/realtime/calls/{call_id}/hangup")).status_code == 200
    found = await transcript(cluster.archiver.url, call_id)
    assert found["gaps"] == []
    return found


async def test_calls_go_on_when_their_gateway_is_killed_sleeps_or_stops(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    keys, booked = Keys(stream_prefix), tmp_path / "booked"
    async with (
        two_gateways(
            redis_url, stream_prefix, tmp_path, archivers=0, drain_timeout="20s", max_session_tokens="100000"
        ) as gateways,
        aioredis.from_url(redis_url, decode_responses=True) as bus,
    ):
        cluster = gateways.cluster
        call_id = await place(gateways.doomed)
        async with caller(cluster, call_id) as client:
            await says(client, book(booked, seconds=4))
            await wait_until(booked.exists, description="the tool to run", timeout=30)
            await recorded(bus, keys, call_id, "tool_start", 1)
            before = await bus.hgetall(keys.session_state(call_id))
            # Killed: its running tool answers the next one, and the call never hears of it.
            await gateways.kill()
            await adopted(bus, keys, call_id, 2)
            await says_until(client, "it is booked")
            after = await bus.hgetall(keys.session_state(call_id))
            assert after["started_at"] == before["started_at"]
            assert int(after["tokens"]) >= int(before.get("tokens") or 0)
            # Frozen: when it wakes, it neither speaks on the call nor hangs it up.
            third = await cluster.start("gateway")
            with gateways.other.frozen():
                await adopted(bus, keys, call_id, 3)
            await says(client, "[[say: still here]]")
            await says_until(client, "still here")
            # Stopped: it lets another one have it.
            fourth = await cluster.start("gateway")
            await cluster.stop(gateways.other)
            await cluster.stop(third)
            await adopted(bus, keys, call_id, 4)
            await says(client, "[[say: to the end]]")
            await says_until(client, "to the end")
        entries: Any = await bus.xrange(keys.events(keys.event_shard(call_id)))
        told = [(fields["epoch"], fields["type"], json.loads(fields["data"])) for _, fields in entries]
        causes = [(epoch, data["cause"]) for epoch, kind, data in told if kind == "model_reconnecting"]
        assert causes == [("2", "takeover"), ("3", "takeover"), ("4", "migrate")]
        await cluster.start("transcript-archiver")
        found = await end(cluster, fourth, call_id)
    assert booked.read_text() == "booked\n"
    said = [item["text"] for item in found["items"] if item["role"] == "assistant"]
    assert said == ["it is booked", "still here", "to the end"]
    assert found["end_reason"] == "hangup"


async def test_what_a_call_came_to_while_its_gateway_was_dead_is_known_to_the_next_one(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    keys, booked, several = Keys(stream_prefix), tmp_path / "booked", [tmp_path / f"booked{n}" for n in range(3)]
    story = " ".join(f"word{number}" for number in range(8))
    long = " ".join(f"line{number}" for number in range(40))
    async with (
        two_gateways(redis_url, stream_prefix, tmp_path, simulator=("--pace", "1")) as gateways,
        aioredis.from_url(redis_url, decode_responses=True) as bus,
        AsyncExitStack() as stack,
    ):
        cluster = gateways.cluster
        calls = [await place(gateways.doomed) for _ in range(5)]
        on_call = [await stack.enter_async_context(caller(cluster, call)) for call in calls]
        ends, goes_on, books, answered, books_all = on_call
        await says(ends, f"[[say: {story}]]")
        await says(goes_on, f"[[say: {long}]]")
        for client in (ends, goes_on):
            await client.until("response.output_audio_transcript.delta")
        # Longer than the text so far is kept at most behind what was said.
        await asyncio.sleep(1.2)
        await says(books, "[[delay: 600ms]]" + book(booked))
        await says(answered, "[[delay: 600ms]][[say: nobody heard me]]")
        await says(books_all, "[[delay: 600ms]]" + book(*several))
        for client in (books, answered, books_all):
            await client.until("response.created")
        await gateways.kill()
        assert not booked.exists()
        for call_id in calls:
            await adopted(bus, keys, call_id, 2)
        await says_until(books, "it is booked")
        await says_until(books_all, "it is booked; it is booked; it is booked")
        await says_until(goes_on, "line39")
        found = [await end(cluster, gateways.other, call_id) for call_id in calls]
    for notes in (booked, *several):
        assert notes.read_text() == "booked\n"

    def lines(transcript: dict[str, Any]) -> list[tuple[str, bool]]:
        return [(item["text"], item["truncated"]) for item in transcript["items"] if item["role"] == "assistant"]

    assert [lines(each) for each in found] == [
        [(story, False)], [(long, False)], [("it is booked", False)], [("nobody heard me", False)],
        [("it is booked; it is booked; it is booked", False)],
    ]  # fmt: skip
    for transcript_of, count in ((found[2], 1), (found[4], 3)):
        ran = [(item["tool"], item["outcome"]) for item in transcript_of["items"] if item["type"] == "tool_call"]
        assert ran == [("book", "ok")] * count
