"""Calls are recorded: both channels on the call's clock, as they were heard, for as long as the caller agrees."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import voicebus
from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import Gateways
from support.buckets import Bucket, bucket_in_trouble
from support.cutting_proxy import cutting_proxy
from support.simulator import SimulatorHandle
from support.small_disk import small_disk
from support.sounds import Channel, opened, stretches
from support.waiting import wait_until
from voicebus.adapters.recordings.storage import RecordingStorage
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.model_simulator.tape import record


@dataclass
class Recorded:
    duration: float
    caller: Channel
    agent: Channel


class Archive:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = RecordingStorage.at(f"file://{folder}")

    async def whole(self, session: str) -> Recorded:
        """The recording of a session that has ended, once it is put together."""

        async def complete() -> bool:
            stored = await self.storage.find("local", session)
            return stored.whole is not None and not stored.segments

        await wait_until(complete, description="the recording to be put together")
        stored = await self.storage.find("local", session)
        assert stored.whole is not None
        return Recorded(*opened(await self.storage.read(stored.whole.path)))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "recordings")


@pytest.fixture
async def recording(gateways: Gateways, archive: Archive) -> AsyncIterator[Gateway]:
    async with gateways(recordings_url=f"file://{archive.folder}") as gateway:
        yield gateway


@asynccontextmanager
async def conversing(gateway: Gateway, query: str = "") -> AsyncIterator[TestClient]:
    async with native(gateway, query) as client:
        await client.until("history_updated")
        yield client


@dataclass
class Lateness:
    """How sound comes: in frames of `frame_ms`, those of `held_up` (ms of it) at once when all of that is spoken."""

    frame_ms: int = 20
    held_up: range = range(0)

    def comes_ms(self, begins_ms: int) -> int:
        return self.held_up.stop if begins_ms in self.held_up else begins_ms


async def speak(client: TestClient, samples: bytes, lateness: Lateness | None = None) -> None:
    """Say it as fast as it is spoken, with the silence after it that ends a turn."""
    loop = asyncio.get_running_loop()
    lateness = lateness or Lateness()
    spoken = samples + bytes(48_000)
    began = loop.time()
    for ms in range(0, len(spoken) // 48, lateness.frame_ms):
        await asyncio.sleep(max(0.0, began + lateness.comes_ms(ms) / 1000 - loop.time()))
        await client.socket.send(spoken[ms * 48 : (ms + lateness.frame_ms) * 48])


async def ended(client: TestClient) -> dict[str, Any]:
    await client.send("end")
    return await client.until("session_ended")


def lines(client: TestClient, role: str) -> list[dict[str, Any]]:
    return [item for item in client.events("item_recorded") if item["role"] == role]


async def test_both_channels_lie_where_the_transcript_says(recording: Gateway, archive: Archive) -> None:
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        await speak(client, record("[[say: Good evening to you]]"))
        await client.until("item_recorded", role="assistant")
        end = await ended(client)
    found = await archive.whole(session)
    assert found.duration == pytest.approx(end["duration_ms"] / 1000, abs=0.05)
    (user,), (agent,) = lines(client, "user"), lines(client, "assistant")
    ((begins, ends),) = stretches(found.agent)
    assert begins == pytest.approx(agent["started_ms"] / 1000, abs=0.05)
    assert ends - begins == pytest.approx(len(record("Good evening to you")) / 48_000, abs=0.05)
    ((said, until),) = stretches(found.caller)
    assert until - said == pytest.approx(len(record("[[say: Good evening to you]]")) / 48_000, abs=0.05)
    assert said == pytest.approx(user["started_ms"] / 1000, abs=0.05)


@pytest.mark.parametrize(
    "lateness",
    [
        Lateness(frame_ms=100),
        Lateness(held_up=range(800, 1100)),
        Lateness(held_up=range(900, 1800)),
        Lateness(held_up=range(1200, 1600)),
    ],
    ids=["long frames", "held up before it speaks", "held up until it has spoken", "held up while it speaks"],
)
async def test_the_caller_lies_where_the_transcript_says_however_their_sound_came(
    recording: Gateway, archive: Archive, lateness: Lateness
) -> None:
    said = record("[[say: Good evening to you]]")
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        await speak(client, bytes(48_000) + said, lateness)
        await client.until("item_recorded", role="assistant")
        await ended(client)
    found = await archive.whole(session)
    (user,) = lines(client, "user")
    (begins, _), *_ = stretches(found.caller, pause_s=0.5)
    assert begins == pytest.approx(user["started_ms"] / 1000, abs=0.05)


@pytest.mark.parametrize("faster", [8, 1000], ids=["eight times as fast", "at once"])
async def test_who_sends_faster_than_they_speak_lies_where_the_transcript_says(
    recording: Gateway, archive: Archive, faster: int
) -> None:
    words = record("[[say: Yes]]")
    said = bytes(24_000) + words + bytes(48_000)
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        began = time.monotonic()
        for _ in range(2):
            for ms in range(0, len(said) // 48, 20):
                await client.socket.send(said[ms * 48 : (ms + 20) * 48])
                await asyncio.sleep(0.02 / faster)
            await client.until("item_recorded", role="user")
        told = lines(client, "user")
        until = began + told[-1]["ended_ms"] / 1000 + 0.5
        await wait_until(lambda: time.monotonic() > until, description="the call to come to where that lies")
        await ended(client)
    found = await archive.whole(session)
    heard = stretches(found.caller)
    begins = [heard[0][0], heard[-1][1] - len(words) / 48_000]  # there may be no pause between the two
    assert begins == pytest.approx([line["started_ms"] / 1000 for line in told], abs=0.05)


async def test_what_was_not_heard_of_an_answer_is_not_in_the_recording(recording: Gateway, archive: Archive) -> None:
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        await client.send("send_message", text=f"[[say: {'word ' * 40}]]")
        await client.until("audio_end")
        await asyncio.sleep(0.5)  # of it are heard
        await client.send("interrupt")
        await client.until("item_recorded", role="assistant")
        await asyncio.sleep(0.5)  # of silence
        await client.send("send_message", text="[[say: Yes]]")
        await client.until("turn_ended", status="completed")
        await client.until("item_recorded", text="Yes")
        await ended(client)
    found = await archive.whole(session)
    cut, after = lines(client, "assistant")
    first, last = stretches(found.agent)
    assert first == pytest.approx((cut["started_ms"] / 1000, cut["ended_ms"] / 1000), abs=0.05)
    assert last[0] == pytest.approx(after["started_ms"] / 1000, abs=0.05)


async def test_a_client_of_the_openai_face_tells_what_it_has_played(recording: Gateway, archive: Archive) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"[[say: {'word ' * 40}]]"}]}
    async with realtime(recording) as client:
        await client.until("session.created")
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        done = await client.until("response.done")
        said = done["response"]["output"][0]["id"]
        await asyncio.sleep(0.7)
        await client.send("conversation.item.truncate", item_id=said, content_index=0, audio_end_ms=500)
        await client.until("conversation.item.truncated")
    found = await archive.whole((await sessions_in(archive))[0])
    ((begins, ends),) = stretches(found.agent)
    assert ends - begins == pytest.approx(0.5, abs=0.05)


async def sessions_in(archive: Archive) -> list[str]:
    """Sessions whose recordings are put together, once there are some."""
    await wait_until(lambda: any(archive.folder.rglob("recording.ogg")), description="a recording")
    return [path.parent.name for path in archive.folder.rglob("recording.ogg")]


async def test_the_sound_of_a_telephone_is_recorded_like_any_other(gateways: Gateways, archive: Archive) -> None:
    async with (
        gateways("services.gateway.phone", recordings_url=f"file://{archive.folder}") as gateway,
        conversing(gateway) as client,
    ):
        session = client.seen[0]["session"]
        assert client.seen[0]["audio"]["output"]["type"] == "audio/pcmu"
        await client.send("send_message", text="[[say: Good evening]]")
        await client.until("item_recorded", role="assistant")
        await ended(client)
    ((begins, ends),) = stretches((await archive.whole(session)).agent)
    assert begins == pytest.approx(lines(client, "assistant")[0]["started_ms"] / 1000, abs=0.05)
    assert ends - begins == pytest.approx(len(record("Good evening")) / 48_000, abs=0.05)


async def test_while_nobody_listens_the_recording_is_silent_and_goes_on_with_the_listener(
    recording: Gateway, archive: Archive
) -> None:
    async with cutting_proxy(recording.port) as proxy, native(proxy) as client:
        started = await client.until("session_started")
        await client.send("send_message", text=f"[[say: {'word ' * 10}]]")
        await client.until("audio_end")
        proxy.cut()
        face = recording.sessions.find(started["session"])
        assert face is not None
        await wait_until(lambda: not face.is_attended, description="the loss to be noticed")
    await asyncio.sleep(1)  # so long nobody listens
    async with native(recording, f"?session={started['session']}&token={started['token']}") as back:
        await back.until("item_recorded", role="assistant")
        await ended(back)
    found = await archive.whole(started["session"])
    heard = stretches(found.agent)
    assert sum(ends - begins for begins, ends in heard) == pytest.approx(
        len(record(("word " * 10).strip())) / 48_000, abs=0.1
    )
    assert [after[0] - before[1] > 0.9 for before, after in itertools.pairwise(heard)] == [True]


# --- consent --------------------------------------------------------------------------------------


async def say(client: TestClient, text: str) -> None:
    await client.send("send_message", text=f"[[say: {text}]]")
    await client.until("item_recorded", role="assistant", text=text)


async def test_nothing_is_recorded_of_a_caller_who_does_not_agree(recording: Gateway, archive: Archive) -> None:
    async with conversing(recording, "?record=0") as client:
        await say(client, "Good evening")
        await ended(client)
    assert not [path for path in archive.folder.rglob("*") if path.is_file()]


async def test_where_consent_is_required_silence_is_none(gateways: Gateways, archive: Archive) -> None:
    settings = {"recordings_url": f"file://{archive.folder}", "recording_consent": "required"}
    async with gateways(**settings) as gateway:
        async with conversing(gateway) as client:
            await say(client, "Good evening")
            await ended(client)
        assert not [path for path in archive.folder.rglob("*") if path.is_file()]
        async with conversing(gateway, "?record=1") as client:
            session = client.seen[0]["session"]
            await say(client, "Good evening")
            await ended(client)
        assert len(stretches((await archive.whole(session)).agent)) == 1


@pytest.mark.parametrize("over", ["websocket", "http"])
async def test_what_is_said_while_the_caller_does_not_agree_is_not_kept(
    recording: Gateway, archive: Archive, over: str
) -> None:
    async with conversing(recording) as client, httpx2.AsyncClient() as http:
        session = client.seen[0]["session"]

        async def agree(consent: bool) -> None:
            if over == "websocket":
                await client.send("record", consent=consent, id=str(consent))
                await client.until("ack", id=str(consent))
            else:
                url = f"http://127.0.0.1:{recording.port}/v1/sessions/{session}/recording"
                answer = await http.post(url, json={"consent": consent})
                assert answer.status_code == 202

        await say(client, "One")
        await agree(False)
        await say(client, "Two two two")
        await agree(True)
        await say(client, "Three three three three")
        end = await ended(client)
    found = await archive.whole(session)
    one, _, three = [
        (item["started_ms"] / 1000, len(record(item["text"])) / 48_000) for item in lines(client, "assistant")
    ]
    assert [(begins, ends - begins) for begins, ends in stretches(found.agent)] == [
        pytest.approx(one, abs=0.05),
        pytest.approx(three, abs=0.05),
    ]
    assert found.duration == pytest.approx(end["duration_ms"] / 1000, abs=0.05)


async def test_a_program_says_whether_its_caller_agrees(recording: Gateway, archive: Archive) -> None:
    sessions = []
    for context, agrees_later in ((None, False), ({"guest": "Ada"}, False), (None, True)):
        url = f"http://127.0.0.1:{recording.port}"
        async with voicebus.connect(url, record=False, context=context) as session:
            if agrees_later:
                await session.record()
            await session.send_message("[[say: Good evening]]")
            async for event in session:
                if event.type == "agent_end":
                    break
            sessions.append(session.id)
    assert (await archive.whole(sessions[2])).duration > 0
    for session_id in sessions[:2]:
        stored = await archive.storage.find("local", session_id)
        assert (stored.whole, stored.segments) == (None, ())


async def test_agreeing_to_a_recording_that_nobody_makes_is_refused(gateway: Gateway) -> None:
    async with conversing(gateway) as client:
        await client.send("record", consent=False, id="no")
        await client.until("ack", id="no")
        await client.send("record", consent=True, id="yes")
        assert (await client.until("error", id="yes"))["code"] == "not_recorded"


async def test_a_tenant_that_has_no_recordings_is_not_recorded_whatever_its_callers_wish(
    gateways: Gateways, archive: Archive, tmp_path: Path
) -> None:
    privacy = tmp_path / "privacy.yaml"
    privacy.write_text("tenants: {local: {record: false}}")
    async with gateways(recordings_url=f"file://{archive.folder}", privacy_file=privacy) as gateway:
        async with conversing(gateway, "?record=1") as client:
            await client.send("record", consent=True, id="yes")
            assert (await client.until("error", id="yes"))["code"] == "not_recorded"
            await say(client, "Good evening")
            await ended(client)
    assert not [path for path in archive.folder.rglob("*") if path.is_file()]


async def test_a_caller_who_takes_their_word_back_in_the_middle_of_an_answer_is_recorded_up_to_there(
    recording: Gateway, archive: Archive
) -> None:
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        await client.send("send_message", text=f"[[say: {'word ' * 20}]]")
        await client.until("audio_end")  # the whole of it is here, and some of it was heard
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await client.send("record", consent=False, id="no")
        await client.until("ack", id="no")
        answered = asyncio.get_running_loop().time() - before
        await client.until("item_recorded", role="assistant")
        await ended(client)
    found = await archive.whole(session)
    (answer,) = lines(client, "assistant")
    ((begins, ends),) = stretches(found.agent)
    assert begins == pytest.approx(answer["started_ms"] / 1000, abs=0.05)
    assert answer["ended_ms"] / 1000 - begins > 3, "it went on for long"
    assert 0.9 < ends - begins < 2 + answered


async def test_a_wish_that_is_none_is_refused_on_both_faces(recording: Gateway) -> None:
    async with native(recording, "?record=perhaps") as client:
        assert (await client.until("error"))["code"] == "invalid_parameter"
    async with realtime(recording, "?record=perhaps") as client:
        error = (await client.until("error"))["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "record")


# --- failures -------------------------------------------------------------------------------------


async def test_a_storage_that_is_away_for_a_while_costs_nothing(
    recording: Gateway, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with conversing(recording) as client:
        session = client.seen[0]["session"]
        archive.folder.chmod(0o755)
        (archive.folder / "local").write_text("in the way")
        await say(client, ("word " * 10).strip())
        (archive.folder / "local").unlink()
        end = await ended(client)
    found = await archive.whole(session)
    assert found.duration == pytest.approx(end["duration_ms"] / 1000, abs=0.05)
    assert len(stretches(found.agent)) == 1


async def test_a_full_disk_costs_no_sound(gateways: Gateways, archive: Archive) -> None:
    with small_disk(archive.folder, 4) as disk:
        async with gateways(recordings_url=f"file://{archive.folder}") as gateway:
            async with conversing(gateway) as client:
                session = client.seen[0]["session"]
                disk.fill()
                await say(client, ("word " * 10).strip())
                disk.make_room()
                end = await ended(client)
            found = await archive.whole(session)
    assert found.duration == pytest.approx(end["duration_ms"] / 1000, abs=0.05)
    assert len(stretches(found.agent)) == 1


@pytest.mark.parametrize("kind", list(Bucket))
async def test_a_bucket_in_trouble_does_no_call_any_harm(
    gateways: Gateways, monkeypatch: pytest.MonkeyPatch, kind: Bucket
) -> None:
    async with bucket_in_trouble(kind, monkeypatch) as asked, gateways(recordings_url="s3://calls/here") as gateway:
        async with conversing(gateway) as client:
            await say(client, "Good evening")
            await wait_until(lambda: asked, description="the bucket to be asked", timeout=20)
            await say(client, "Still here")
            end = await ended(client)
            assert await client.closed() == 1000
        assert end["reason"] == "ended"
        await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def test_a_gateway_that_stops_finishes_its_recordings(
    gateways: Gateways, archive: Archive, simulator: SimulatorHandle
) -> None:
    async with gateways(recordings_url=f"file://{archive.folder}") as gateway:
        async with conversing(gateway) as client:
            session = client.seen[0]["session"]
            await say(client, "Good evening")
            await ended(client)
    stored = await archive.storage.find("local", session)
    assert stored.whole is not None
