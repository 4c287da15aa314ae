"""A gateway that dies in the middle of conversations: each goes on at another one, and nothing is lost or doubled."""

import json
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis

from services.gateway.clients import native
from support.callers import Caller, calling, fetch, transcript
from support.cluster import ClusterUnderTest, running_cluster
from support.kept import all_kept, seq_kept
from support.two_gateways import TwoGateways, two_gateways
from support.waiting import wait_until
from voicebus.contracts.streams import Keys
from voicebus_services.model_simulator import tape

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]


def call(tool: str, **arguments: Any) -> str:
    return f"[[call: {tool} {json.dumps(arguments)}]]"


async def callers(stack: AsyncExitStack, gateways: TwoGateways, count: int) -> list[Caller]:
    return [await stack.enter_async_context(calling(gateways.url)) for _ in range(count)]


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
        two_gateways(redis_url, stream_prefix, tmp_path, simulator=("--pace", "3")) as gateways,
        AsyncExitStack() as stack,
    ):
        idle, listening, waiting, asked, handed, speaking = await callers(stack, gateways, 6)
        await idle.types("[[say: I am here.]]")
        await idle.hears("I am here.")
        story = " ".join(f"word{number}" for number in range(20))
        await listening.types(f"[[say: {story}]]")
        await listening.until(lambda each: each.audio, "the answer to begin")
        await waiting.types(f"book it {call('book', notes=str(booked), seconds=4)}")
        await waiting.until(lambda each: each.of("tool_start") and booked.exists(), "the tool to run")
        await asked.types(f"pay it {call('pay', notes=str(paid))}")
        required = await asked.until(lambda each: each.of("tool_approval_required"), "the question")
        await all_kept(redis_url, stream_prefix, waiting, asked)
        await handed.conversation.say("to the other one [[call: transfer_to_second {}]]")
        await handed.until(lambda each: each.of("handoff"), "the handoff")

        sound = tape.record("[[say: heard you]]")
        for start in range(0, len(sound) // 2, 4800):
            await speaking.conversation.send_audio(sound[start : min(start + 4800, len(sound) // 2)])

        await gateways.kill()

        for each in (idle, listening, waiting, asked, handed, speaking):
            await each.until(lambda one: one.of("model_reconnected"), "the session to go on")
        # What was said before the death is sent again by the caller's link, and what comes now belongs to it.
        await speaking.conversation.send_audio(sound[len(sound) // 2 :] + bytes(48 * 900))
        await speaking.hears("heard you")
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
        for each in (idle, listening, waiting, asked, handed, speaking):
            await each.hangs_up()
            await archived(gateways.cluster, each)
        assert speaking.lines() == [("user", "[[say: heard you]]"), ("assistant", "heard you")]
        assert booked.read_text() == "booked\n"
        assert paid.read_text() == "paid\n"


async def test_a_turn_that_was_committed_just_before_its_gateway_died_is_answered_once(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    # Transcriptions come after the answers, so that for a while nobody but the model knows what was said.
    quirks = json.dumps({"reordered": True})
    async with (
        two_gateways(
            redis_url,
            stream_prefix,
            tmp_path,
            target="support.push_desk",
            simulator=("--simulator-quirks", quirks),
            tool_workers=0,
        ) as gateways,
        AsyncExitStack() as stack,
    ):
        thinking, sent, answered = await callers(stack, gateways, 3)

        async def pushes(caller: Caller, words: str) -> None:
            await caller.conversation.send_audio(tape.record(words))
            await caller.conversation.command("commit")

        # One whose words come with its answer, one that the model has not heard yet, and one that is over.
        await pushes(answered, "[[say: all done]]")
        await answered.hears("all done")
        await pushes(thinking, "[[delay: 4s]][[say: I have thought]]")
        await thinking.until(lambda each: each.of("history_added"), "the turn to be there")
        with gateways.cluster.simulator.frozen():
            await pushes(sent, "[[say: there you are]]")
            await sent.until(lambda each: each.of("history_updated"), "the greeting")
            await gateways.kill()
        await thinking.hears("I have thought")
        await sent.hears("there you are")
        await pushes(answered, "[[say: and again]]")
        await answered.hears("and again")
        for each in (thinking, sent, answered):
            await each.hangs_up()
            await archived(gateways.cluster, each)
        assert thinking.lines() == [("user", "[[delay: 4s]][[say: I have thought]]"), ("assistant", "I have thought")]
        assert sent.lines() == [("user", "[[say: there you are]]"), ("assistant", "there you are")]
        assert [text for role, text in answered.lines() if role == "assistant"] == ["all done", "and again"]


async def test_a_turn_that_was_detected_just_before_its_gateway_died_is_answered_once(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    # Transcriptions come after the answers, so that for a while nobody but the model knows what was said.
    quirks = json.dumps({"reordered": True})
    async with (
        two_gateways(
            redis_url, stream_prefix, tmp_path, simulator=("--simulator-quirks", quirks), tool_workers=0
        ) as gateways,
        AsyncExitStack() as stack,
    ):
        thinking, open_ended, answered = await callers(stack, gateways, 3)
        await answered.says("[[say: all done]]")
        await answered.hears("all done")
        await thinking.says("[[delay: 4s]][[say: I have thought]]")
        await open_ended.says("[[delay: 4s]][[say: me too]]")
        for each in (thinking, open_ended):
            await each.until(lambda one: one.of("history_added"), "the turn to be there")
        await gateways.kill()
        # Its microphone stays open, so that its turn is not the newest of what was said.
        for _ in range(70):
            await open_ended.conversation.send_audio(bytes(4800))
        await thinking.hears("I have thought")
        await open_ended.hears("me too")
        await answered.says("[[say: and again]]")
        await answered.hears("and again")
        for each in (thinking, open_ended, answered):
            await each.hangs_up()
            await archived(gateways.cluster, each)
        assert thinking.lines() == [("user", "[[delay: 4s]][[say: I have thought]]"), ("assistant", "I have thought")]
        assert open_ended.lines() == [("user", "[[delay: 4s]][[say: me too]]"), ("assistant", "me too")]
        assert [text for role, text in answered.lines() if role == "assistant"] == ["all done", "and again"]


async def test_an_owner_that_slept_learns_that_it_is_none_any_more_and_writes_nothing(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    keys = Keys(stream_prefix)
    async with (
        two_gateways(redis_url, stream_prefix, tmp_path, tool_workers=0) as gateways,
        aioredis.from_url(redis_url, decode_responses=True) as bus,
    ):
        sleeper, other = gateways.doomed, gateways.other
        async with native(sleeper) as first, native(sleeper) as unaffected:
            started = await first.until("session_started")
            await unaffected.until("session_started")
            await first.send("send_message", text="[[say: one]]", id="m1")
            seq = (await first.until("turn_ended"))["seq"]

            await seq_kept(redis_url, stream_prefix, started["session"], seq)
            with sleeper.frozen():
                query = f"?session={started['session']}&token={started['token']}&seq={seq}"
                async with native(other, query, open_timeout=30) as second:
                    resumed = await second.until("session_resumed")
                    history = (await second.until("history_updated"))["history"]
                    assert [item["role"] for item in history] == ["user", "assistant"]
                    assert resumed["from_seq"] == seq
                    await second.until("model_reconnected")
                    await second.send("send_message", text="[[say: one]]", id="m1", again=True)
                    await second.until("ack", id="m1")
                    await second.send("send_message", text="[[say: two]]")
                    await second.until("turn_ended")
                    sleeper.signal(signal.SIGCONT)
                    assert await first.closed() == 4409
                    assert "session_ended" not in first.types
                    await second.send("send_message", text="[[say: three]]")
                    await second.until("turn_ended")
                    await second.send("end")
                    assert await second.closed() == 1000
            await unaffected.send("send_message", text="[[say: here]]")
            await unaffected.until("turn_ended")
        found = await transcript(gateways.cluster.archiver.url, started["session"])
        state = await bus.hgetall(keys.session_state(started["session"]))
    assert found["gaps"] == []
    said = [item["text"] for item in found["items"] if item["role"] == "assistant"]
    assert said == ["one", "two", "three"]
    assert state["epoch"] == "2"
    assert found["last_seq"] == int(state["seq"])


async def test_a_call_whose_caller_does_not_come_back_is_archived_as_interrupted(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{tmp_path / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=("support.emergency_desk",),
        gateways=1,
        guardrail_workers=0,
        resume_grace="2s",
    ) as cluster:
        doomed = cluster.gateway
        # It tells of ended sessions for longer than the archiver waits with the end.
        other = await cluster.start("gateway", resume_grace="60s")
        booked = tmp_path / "booked"
        async with native(doomed) as first:
            started = await first.until("session_started")
            session = started["session"]
            await first.send("send_message", text="[[say: good morning]]")
            await first.until("item_recorded", role="assistant")
            await first.send("send_message", text=call("book", notes=str(booked), seconds=1))
            await wait_until(booked.exists, description="the tool to run")
            await seq_kept(redis_url, stream_prefix, session, (await first.until("tool_start"))["seq"])
            await cluster.kill(doomed)

        async def interrupted() -> Any:
            found = await fetch(f"{cluster.archiver.url}/v1/transcripts/{session}")
            return found if found is not None and found["status"] == "interrupted" else None

        found = await wait_until(interrupted, description="the end of the session", timeout=30)
        shown = await fetch(f"{other.url}/v1/sessions/{session}")
        async with native(other, f"?session={session}&token={started['token']}&seq=1") as late:
            resumed = await late.until("session_resumed")
            assert await late.closed() == 1000
            assert (resumed["from_seq"], late.seen[-1]["type"]) == (1, "session_ended")
            assert late.seen[-1]["reason"] == "interrupted"
            told = [
                event["seq"] for event in late.seen if event["type"] in ("item_recorded", "tool_end", "session_ended")
            ]
            assert told == sorted(set(told))
            assert told[-1] == found["last_seq"]
            assert [event["text"] for event in late.events("item_recorded")][:2] == [
                item["text"] for item in found["items"][:2]
            ]
        async with native(other, f"?session={session}&token=another&seq=1") as stranger:
            assert await stranger.closed() == 1008
    assert found["gaps"] == []
    assert found["end_reason"] == "interrupted"
    assert [(item["type"], item["role"]) for item in found["items"]] == [
        ("message", "user"),
        ("message", "assistant"),
        ("message", "user"),
        ("tool_call", None),
    ]
    assert found["items"][-1]["outcome"] == "cancelled"
    assert (shown["status"], shown["end_reason"]) == ("interrupted", "interrupted")


async def test_a_call_goes_on_when_its_only_gateway_is_killed_and_started_again_where_it_was(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    async with (
        running_cluster(
            redis_url=redis_url,
            database_url=f"sqlite:///{tmp_path / 'v.db'}",
            stream_prefix=stream_prefix,
            tool_workers=0,
            guardrail_workers=0,
        ) as cluster,
        calling(cluster.gateway.url) as caller,
    ):
        port = cluster.gateway.port

        async def talks(words: str) -> None:
            await caller.types(f"[[say: {words}]]")
            await caller.hears(words)
            await all_kept(redis_url, stream_prefix, caller)

        await talks("before")
        # At once, so that what the dead one wrote of itself is still there; then the one that has taken the call.
        for words in ("after", "and after"):
            await cluster.kill(cluster.gateway)
            await cluster.start("gateway", http_port=port)
            await talks(words)
        await caller.hangs_up()
        found = await archived(cluster, caller)
    assert [text for role, text in caller.lines() if role == "assistant"] == ["before", "after", "and after"]
    assert found["end_reason"] == "ended"


async def test_a_rollout_moves_calls_and_no_caller_notices(redis_url: str, stream_prefix: str, tmp_path: Path) -> None:
    async with (
        two_gateways(redis_url, stream_prefix, tmp_path, drain_timeout="20s") as gateways,
        AsyncExitStack() as stack,
    ):
        idle, busy = await callers(stack, gateways, 2)
        await idle.types("[[say: I am here.]]")
        await idle.hears("I am here.")
        await busy.types(f"book it {call('book', notes=str(tmp_path / 'booked'), seconds=2)}")
        await busy.until(lambda each: each.of("tool_start"), "the tool to run")
        await gateways.stop()
        for each in (idle, busy):
            await each.until(lambda one: one.of("model_reconnected"), "the session to go on")
        # It was at work, and moved when that was over.
        assert [event["output"] for event in busy.of("tool_end")] == ["it is booked"]
        await busy.hears("it is booked")
        await idle.types("and now? [[say: I am still here.]]")
        await idle.hears("I am still here.")
        for each in (idle, busy):
            assert each.of("connection_lost") == []
            await each.hangs_up()
            found = await archived(gateways.cluster, each)
            assert [item["text"] for item in found["items"] if item["truncated"]] == []
