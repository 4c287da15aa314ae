"""Calls that are recorded while their gateway is killed: what was said is kept, at its place, in a file that opens."""

import asyncio
import os
import random
import shutil
import subprocess
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from chaos.transcripts import FrontDoor
from support.callers import Caller, calling, fetch
from support.cluster import ClusterUnderTest, running_cluster
from support.sounds import opened, stretches
from support.waiting import wait_until
from voicebus.adapters.recordings.storage import RecordingStorage, Stored
from voicebus_services.model_simulator.tape import record

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]

TARGETS = ("support.emergency_desk",)
FIRST, SECOND = "Good evening to you", "I am still with you"


class Call:
    """A caller at one gateway, whose microphone is open all the time; a second gateway is there when the first dies."""

    def __init__(self, cluster: ClusterUnderTest, caller: Caller, storage: RecordingStorage) -> None:
        self.cluster = cluster
        self.caller = caller
        self.storage = storage

    async def stored(self) -> Stored:
        return await self.storage.find("local", self.caller.session)

    async def written(self, words: str) -> None:
        """Wait until what the agent has said last is in the storage, and a little of what followed."""

        async def is_there() -> bool:
            stored = await self.stored()
            data = b"".join([await self.storage.read(part.path) for part in stored.segments[-1].parts])
            if len(data) < 10_000:
                return False
            duration, _, agent = opened(data)
            found = stretches(agent)
            return bool(found) and found[-1][1] < duration - 0.5

        await wait_until(is_there, description=f"{words!r} to be stored", timeout=60, interval=0.5)

    async def loses_its_gateway(self) -> None:
        await self.cluster.start("gateway")
        await self.cluster.kill(self.cluster.services["gateway"][0])


async def converse(stack: AsyncExitStack, cluster: ClusterUnderTest, recordings: str) -> Call:
    door = await stack.enter_async_context(FrontDoor(cluster, "gateway", random.Random(1)).open())
    caller = await stack.enter_async_context(calling(door.url))
    return Call(cluster, caller, RecordingStorage.at(recordings))


async def speaks(caller: Caller, words: str) -> None:
    """Say what has `words` answered, and keep the line open until they are heard."""
    said = record(f"[[say: {words}]]") + bytes(48_000)
    speaking = asyncio.create_task(caller.conversation.speak(said), name="speaking")
    try:
        await caller.hears(words)
        await asyncio.sleep(1.5)  # the answer is heard for as long as it lasts
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


def agent_lines(caller: Caller) -> list[dict[str, Any]]:
    return [event for event in caller.of("item_recorded") if event["role"] == "assistant"]


def shown_by_ffprobe(path: Path) -> float | None:
    """The duration (s) that ffprobe shows, where it is installed (or named by FFPROBE)."""
    program = os.environ.get("FFPROBE") or shutil.which("ffprobe")
    if program is None:
        return None
    asked = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    shown = subprocess.run([program, *asked, str(path)], capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    return float(shown.stdout)


def cluster_of(redis_url: str, stream_prefix: str, tmp_path: Path, **settings: Any) -> Any:
    return running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{tmp_path / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=TARGETS,
        guardrail_workers=0,
        tool_workers=0,
        recordings_url=f"file://{tmp_path / 'recordings'}",
        **settings,
    )


async def test_a_call_that_goes_on_elsewhere_is_one_recording_with_both_channels_in_their_places(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    async with (
        cluster_of(redis_url, stream_prefix, tmp_path, recording_consent="assumed") as cluster,
        AsyncExitStack() as stack,
    ):
        call = await converse(stack, cluster, f"file://{tmp_path / 'recordings'}")
        await speaks(call.caller, FIRST)
        await call.written(FIRST)
        await call.loses_its_gateway()
        await call.caller.until(lambda each: each.of("model_reconnected"), "the session to go on")
        await speaks(call.caller, SECOND)
        await call.caller.hangs_up()
        (end,) = call.caller.of("session_ended")

        async def whole() -> Any:
            stored = await call.stored()
            return stored.whole if stored.whole is not None and not stored.segments else None

        found = await wait_until(whole, description="the recording to be put together", timeout=60)
        data = await call.storage.read(found.path)
        duration, caller, agent = opened(data)
        lasted = end["duration_ms"] / 1000
        assert duration == pytest.approx(lasted, abs=0.05)
        told = {line["text"]: line["started_ms"] / 1000 for line in agent_lines(call.caller)}
        begins = {
            words: begin for words, (begin, _) in zip((FIRST, SECOND), stretches(agent, pause_s=0.5), strict=True)
        }
        assert begins == {words: pytest.approx(told[words], abs=0.05) for words in (FIRST, SECOND)}
        said = [event["started_ms"] / 1000 for event in call.caller.of("item_recorded") if event["role"] == "user"]
        assert len(said) == 2
        assert [begin for begin, _ in stretches(caller, pause_s=0.5)] == pytest.approx(said, abs=0.05)
        (tmp_path / "whole.ogg").write_bytes(data)
        shown = shown_by_ffprobe(tmp_path / "whole.ogg")
        assert shown is None or shown == pytest.approx(lasted, abs=0.05)


async def test_a_call_that_nobody_comes_back_to_keeps_what_was_said(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    async with (
        cluster_of(redis_url, stream_prefix, tmp_path, recording_consent="assumed", resume_grace="2s") as cluster,
        AsyncExitStack() as stack,
    ):
        door = await stack.enter_async_context(FrontDoor(cluster, "gateway", random.Random(1)).open())
        async with calling(door.url) as caller:
            call = Call(cluster, caller, RecordingStorage.at(f"file://{tmp_path / 'recordings'}"))
            await speaks(caller, FIRST)
            await call.written(FIRST)
            (line,) = agent_lines(caller)
            await cluster.kill(cluster.gateway)

        async def interrupted() -> Any:
            found = await fetch(f"{cluster.archiver.url}/v1/transcripts/{call.caller.session}")
            return found is not None and found["status"] == "interrupted"

        await wait_until(interrupted, description="the end of the session", timeout=60)
        data = await asyncio.to_thread(_read, f"{cluster.archiver.url}/v1/transcripts/{caller.session}/recording")
        duration, said, agent = opened(data)
        ((begins, ends),) = stretches(agent, pause_s=0.5)
        assert begins == pytest.approx(line["started_ms"] / 1000, abs=0.05)
        assert ends - begins == pytest.approx(len(record(FIRST)) / 48_000, abs=0.05)
        assert duration > ends
        (user,) = [event for event in caller.of("item_recorded") if event["role"] == "user"]
        assert stretches(said, pause_s=0.5)[0][0] == pytest.approx(user["started_ms"] / 1000, abs=0.05)
        (tmp_path / "parts.ogg").write_bytes(data)
        shown = shown_by_ffprobe(tmp_path / "parts.ogg")
        assert shown is None or shown == pytest.approx(duration, abs=0.05)


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: bytes = answer.read()
    return found
