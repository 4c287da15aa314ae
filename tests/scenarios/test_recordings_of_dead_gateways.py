"""A recorded call whose gateways are killed: it can be heard all the time, and then, where the transcript says."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.clients import native
from support.callers import fetch
from support.cluster import running_cluster
from support.sounds import opened, stretches
from support.waiting import wait_until
from voicebus.adapters.recordings.storage import RecordingStorage

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]


async def test_what_was_said_before_gateways_were_killed_can_be_heard_meanwhile_and_after(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/recordings"
    async with (
        running_cluster(
            redis_url=redis_url,
            database_url=f"sqlite:///{tmp_path / 'v.db'}",
            stream_prefix=stream_prefix,
            gateways=2,
            guardrail_workers=0,
            tool_workers=0,
            resume_grace="3s",
            recordings_url=url,
        ) as cluster,
        httpx2.AsyncClient(base_url=cluster.archiver.url) as http,
    ):
        storage = RecordingStorage.at(url)
        first, second = cluster.services["gateway"]

        async def heard(session: str) -> tuple[float, list[tuple[float, float]]]:
            answer = await http.get(f"/v1/transcripts/{session}/recording")
            if answer.status_code == 404:
                return 0.0, []
            duration, _, agent = opened(answer.content)
            return duration, stretches(agent, pause_s=0.5)

        async with native(first) as client:
            started = await client.until("session_started")
            session = started["session"]
            await client.send("send_message", text="[[say: good morning to you]]")
            await client.until("item_recorded", role="assistant")

            async def one() -> bool:
                return len((await heard(session))[1]) == 1

            await wait_until(one, description="the first answer to be heard while the call goes on")
            await cluster.kill(first)
        async with native(second, f"?session={session}&token={started['token']}") as client:
            await client.until("session_resumed")
            await client.send("send_message", text="[[say: good evening to you]]")
            await client.until("item_recorded", role="assistant", text="good evening to you")

            async def both() -> bool:
                return len((await heard(session))[1]) == 2

            await wait_until(both, description="both answers to be heard while the call goes on", timeout=40)
            assert (await storage.find("local", session)).whole is None
            await cluster.kill(second)

        async def whole() -> bool:
            stored = await storage.find("local", session)
            return stored.whole is not None and not stored.segments

        await wait_until(whole, description="the archiver to put the recording together", timeout=40)
        found: dict[str, Any] = await fetch(f"{cluster.archiver.url}/v1/transcripts/{session}")
        duration, answers = await heard(session)
    assert found["status"] == "interrupted"
    said = [item["start_ms"] / 1000 for item in found["items"] if item["role"] == "assistant"]
    assert [begins for begins, _ in answers] == pytest.approx(said, abs=0.05)
    assert duration >= answers[-1][1]
