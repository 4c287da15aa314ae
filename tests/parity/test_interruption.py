"""Stopping what is being said, and how much of it was heard (parity L 119 to 123, and 2.24 to 2.27)."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.scripts import answering, sent
from support.stages import Stage
from support.waiting import wait_until
from voicebus import (
    RealtimeAgent,
    RealtimeModelSendInterrupt,
    RealtimePlaybackTracker,
    RealtimeRunConfig,
    RealtimeRunner,
)
from voicebus.testing import ScriptedRealtimeServer, audio_turn, barge_in, end_turn, open_turn, user_turn
from voicebus.testing.server_conversation import ServerConversation

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")
SECOND = bytes(48_000)  # a second of 24 kHz PCM


def cuts(server: ScriptedRealtimeServer) -> list[int]:
    return [event["audio_end_ms"] for event in server.received("conversation.item.truncate")]


def answering_by_hand() -> RealtimeRunConfig:
    """The server does not cancel by itself when the user speaks."""
    return {"model_settings": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}


async def test_what_a_listener_has_played_is_where_the_answer_is_cut(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", SECOND)) as server:
        async with stage.conversation(ADA, server, reports_playback=True) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await wait_until(lambda: len(talk.of("audio")) == 10, description="a second of sound")
            await talk.played(audio["item_id"], 250)
            await talk.interrupt()
            await talk.until("audio_interrupted", item_id=audio["item_id"])
            await server.wait_for("conversation.item.truncate")
    assert cuts(server) == [250]


async def test_playback_is_estimated_from_the_first_sound_and_never_beyond_what_came(stage: Stage) -> None:
    async with answering(open_turn("Hm", bytes(480))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("tell me")
        await talk.until("audio")
        await talk.interrupt()
        await talk.until("audio_interrupted")
        await talk.until("agent_end")
    (cut,) = cuts(server)
    assert 0 <= cut <= 10, "10 ms of audio came"


async def test_telephone_audio_is_eight_bytes_a_millisecond(stage: Stage) -> None:
    config: RealtimeRunConfig = {"model_settings": {"output_audio_format": "g711_ulaw"}}
    async with answering(open_turn("Let me tell you", bytes(800))) as server:
        async with stage.conversation(ADA, server, config, reports_playback=True) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await wait_until(lambda: bool(talk.of("audio")), description="all audio")
            await talk.played(audio["item_id"], 5_000)
            await talk.interrupt()
            await talk.until("agent_end")
    assert cuts(server) == [100], "100 ms came"


async def test_speech_stops_the_answer_and_the_server_cancels_it(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", SECOND)) as server, stage.conversation(ADA, server) as talk:
        await talk.say("tell me")
        audio = await talk.until("audio")
        await server.connections[0].emit(barge_in("Stop."))
        await talk.until("audio_interrupted", item_id=audio["item_id"])
        await server.wait_for("conversation.item.truncate")
        await talk.until("audio_end", item_id=audio["item_id"])  # as the server ends all that it has begun
        await talk.until("agent_end")
    assert len(cuts(server)) == 1
    assert server.received("response.cancel") == []


async def test_speech_cancels_the_answer_where_the_server_does_not(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", SECOND)) as server:
        async with stage.conversation(ADA, server, answering_by_hand()) as talk:
            await talk.say("tell me")
            await talk.until("audio")
            started = {"type": "input_audio_buffer.speech_started", "item_id": "u9", "audio_start_ms": 0}
            await server.connections[0].emit(started)
            await talk.until("audio_interrupted")
            await talk.until("agent_end")
    assert len(server.received("response.cancel")) == 1


async def test_only_the_first_speech_after_audio_interrupts(stage: Stage) -> None:
    async with answering(audio_turn("Hm", bytes(480))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("tell me")
        await talk.until("agent_end")
        model = server.connections[0]
        await model.emit(user_turn("one"))
        await talk.until("audio_interrupted")
        await model.emit(user_turn("two"), user_turn("three"))
        await wait_until(
            lambda: len([e for e in talk.of("history_added") if e["item"]["role"] == "user"]) == 4,
            description="all that the user said",
        )
    assert len(talk.of("audio_interrupted")) == 1


async def test_interrupt_cancels_and_truncates_an_answer_in_both_kinds(stage: Stage) -> None:
    for kind, truncations in (("audio", 1), ("text", 0)):
        turn = open_turn("Let me tell you", SECOND if kind == "audio" else None, kind=kind)
        async with answering(turn) as server, stage.conversation(ADA, server) as talk:
            await talk.say("tell me")
            await talk.until("audio" if kind == "audio" else "transcript_delta")
            await talk.interrupt()
            await talk.until("agent_end")
        assert len(server.received("response.cancel")) == 1, kind
        assert len(cuts(server)) == truncations, kind


async def test_nothing_of_an_interrupted_answer_is_heard_afterwards(stage: Stage) -> None:
    async with answering(open_turn("Let me", SECOND)) as server:
        async with stage.conversation(ADA, server, answering_by_hand()) as talk:
            await talk.say("tell me")
            await talk.until("transcript_delta", text="Let me")
            await wait_until(lambda: len(talk.of("audio")) >= 5, description="the audio so far")
            model = server.connections[0]
            item = talk.of("audio")[-1]["item_id"]
            late = {
                "type": "response.output_audio.delta", "response_id": "resp_1", "item_id": item, "output_index": 0,
                "content_index": 0, "delta": "AAAA",
            }  # fmt: skip
            await model.emit({"type": "input_audio_buffer.speech_started", "item_id": "u9", "audio_start_ms": 0}, late)
            await talk.until("audio_interrupted")
            await talk.until("agent_end")
    kinds = talk.kinds()
    assert "audio" not in kinds[kinds.index("audio_interrupted") :]


async def test_interrupting_when_nothing_is_said_does_nothing(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await talk.interrupt()
        await server.connections[0].emit(user_turn("hello"))
        await talk.until("history_updated")
    assert sent(server, "response.cancel", "conversation.item.truncate") == []
    assert talk.of("audio_interrupted") == []


async def test_an_answer_that_was_played_to_its_end_is_not_truncated(stage: Stage) -> None:
    async with answering(audio_turn("Hm", bytes(480))) as server:
        async with stage.conversation(ADA, server, reports_playback=True) as talk:
            await talk.say("tell me")
            await talk.until("agent_end")
            await talk.played(talk.of("audio")[-1]["item_id"], 10)
            await server.connections[0].emit(user_turn("thanks"))
            await talk.until("audio_interrupted")
            await talk.until("history_updated")
    assert cuts(server) == []


async def test_a_cut_at_the_very_beginning_is_sent(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", SECOND)) as server:
        async with stage.conversation(ADA, server, reports_playback=True) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await talk.played(audio["item_id"], 0)
            await talk.interrupt()
            await talk.until("agent_end")
            await server.wait_for("conversation.item.truncate")
    assert cuts(server) == [0]


async def test_less_than_nothing_was_heard_is_nothing(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", SECOND)) as server:
        async with stage.conversation(ADA, server, reports_playback=True) as talk:
            await talk.say("tell me")
            audio = await talk.until("audio")
            await talk.played(audio["item_id"], 0)
            await talk.played(audio["item_id"], -5)
            await talk.interrupt()
            await talk.until("agent_end")
            await server.wait_for("conversation.item.truncate")
    assert cuts(server) == [0]


async def test_an_item_behind_one_that_still_plays_was_not_heard_yet(stage: Stage) -> None:
    def two_items(conversation: ServerConversation) -> Iterator[Any]:
        yield from conversation.begin_response()
        for text in ("First", "Second"):
            yield from conversation.begin_message("audio")
            yield from conversation.say(text, SECOND * 30)
            if text == "First":
                yield from conversation.end_message()

    async with answering(two_items) as server, stage.conversation(ADA, server) as talk:
        await talk.say("tell me")
        await talk.until("transcript_delta", delta="Second")
        first, second = dict.fromkeys(event["item_id"] for event in talk.of("audio"))
        await talk.interrupt()
        await talk.until("agent_end")
        await server.wait_for("conversation.item.truncate", 2)
    told = {event["item_id"]: event["audio_end_ms"] for event in server.received("conversation.item.truncate")}
    assert 0 <= told[first] < 30_000
    assert told[second] == 0


async def test_an_interruption_of_one_response_leaves_what_the_next_one_says_alone() -> None:
    """In process only: `session.model`."""
    turns = audio_turn("First", SECOND * 30), open_turn("Second", SECOND * 30)
    async with answering(*turns) as server:
        async with await RealtimeRunner(ADA).run(model_config={"url": server.url, "api_key": "test"}) as session:
            await session.send_message("tell me")
            stopped: list[str] = []
            responses: list[str | None] = []
            async for event in session:
                if event.type == "agent_start":
                    responses.append(event.response_id)
                if event.type == "agent_end" and event.output == "First":
                    await session.send_message("more")
                if event.type == "audio_start" and len(responses) == 2:
                    one = RealtimeModelSendInterrupt(response_id=responses[0], playback_only=True)
                    await session.model.send_event(one)
                    second = event.item_id
                if event.type == "audio_interrupted":
                    stopped.append(event.item_id)
                    await server.connections[0].emit(end_turn())
                if event.type == "agent_end" and event.output == "Second":
                    break
    assert len(stopped) == 1
    assert second not in stopped
    assert server.received("response.cancel") == []


async def test_a_tracker_that_knows_of_no_item_interrupts_without_a_cut() -> None:
    """In process only: a playback tracker is an object of the program; clients report playback by command."""
    tracker = RealtimePlaybackTracker()
    async with answering(open_turn("Let me tell you", SECOND)) as server:
        run = RealtimeRunner(ADA).run(model_config={"url": server.url, "api_key": "test", "playback_tracker": tracker})
        async with await run as session:
            await session.send_message("tell me")
            kinds = []
            async for event in session:
                kinds.append(event.type)
                if event.type == "audio" and kinds.count("audio") == 1:
                    await server.connections[0].emit(end_turn())
                    await session.interrupt()
                if event.type == "agent_end":
                    break
    assert "audio_interrupted" in kinds
    assert cuts(server) == []


@pytest.mark.parametrize(("encoding", "size"), [("pcm16", 48), ("g711_ulaw", 8), ("g711_alaw", 8)])
def test_a_tracker_counts_bytes_in_its_format_and_starts_anew_with_each_item(encoding: str, size: int) -> None:
    """In process only, for the same reason."""
    tracker = RealtimePlaybackTracker()
    tracker.set_audio_format(encoding)
    assert tracker.get_state()["elapsed_ms"] is None
    tracker.on_play_bytes("i1", 0, bytes(100 * size))
    tracker.on_play_bytes("i1", 0, bytes(20 * size))
    assert tracker.get_state() == {"current_item_id": "i1", "current_item_content_index": 0, "elapsed_ms": 120}
    tracker.on_play_ms("i2", 1, 7)
    assert tracker.get_state() == {"current_item_id": "i2", "current_item_content_index": 1, "elapsed_ms": 7}
    tracker.on_interrupted()
    assert tracker.get_state()["current_item_id"] is None
