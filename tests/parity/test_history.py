"""What the history of a conversation is made of, and which events tell of it (parity K)."""

from typing import Any

from support.scripts import answering
from support.stages import Conversation, Stage
from voicebus import RealtimeAgent
from voicebus.testing import (
    ScriptedRealtimeServer,
    audio_turn,
    barge_in,
    function_call,
    open_turn,
    text_turn,
    user_turn,
)

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")


def history(talk: Conversation) -> list[dict[str, Any]]:
    """The history as the last event has it, without what is not set."""
    return [_set(item) for item in talk.of("history_updated")[-1]["history"]]


def _set(item: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in item.items() if value is not None}
    return {**kept, "content": [_set(part) for part in kept["content"]]} if "content" in kept else kept


def user_item(item_id: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "role": "user", "status": "completed", "content": list(content)}


def typed(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


async def test_a_new_item_is_added_and_a_known_one_updated_and_a_deleted_one_goes(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        model = await server.wait_for_connection()
        first = {"type": "conversation.item.added", "previous_item_id": None, "item": user_item("u1", typed("one"))}
        await model.emit(first)
        added = await talk.until("history_added")
        assert added["item"]["item_id"] == "u1"
        await model.emit({**first, "item": user_item("u1", typed("one and a half"))})
        await talk.until("history_updated")
        assert [part["text"] for part in history(talk)[0]["content"]] == ["one and a half"]
        await model.emit({"type": "conversation.item.deleted", "item_id": "u1"})
        await talk.until("history_updated")
        assert history(talk) == []


async def test_an_item_stands_behind_the_one_that_it_names_else_at_the_end(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        model = await server.wait_for_connection()
        for item_id, previous in (("u1", None), ("u2", None), ("between", "u1"), ("last", "unknown"), ("gone", None)):
            item = user_item(item_id, typed(item_id))
            await model.emit({"type": "conversation.item.added", "previous_item_id": previous, "item": item})
            await talk.until("history_added")
        await model.emit({"type": "conversation.item.deleted", "item_id": "gone"})
        await talk.until("history_updated")
        assert [item["item_id"] for item in history(talk)] == ["u1", "between", "u2", "last"]


async def test_what_is_known_of_an_item_is_not_taken_back_by_one_that_says_less(stage: Stage) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        model = await server.wait_for_connection()
        event = {"type": "conversation.item.added", "previous_item_id": None}
        await model.emit({**event, "item": user_item("u1", image, typed("look"))})
        await model.emit({**event, "item": user_item("u1", typed("look here"))})
        await talk.until("history_updated")
        kept = history(talk)[0]["content"]
        assert [part["type"] for part in kept] == ["input_image", "input_text"]
        assert kept[1]["text"] == "look here"
        # Parts that say nothing keep what was known, wherever the images stand.
        await model.emit({**event, "item": user_item("u1", typed(""), {"type": "input_audio", "transcript": "there"})})
        await talk.until("history_updated")
        await model.emit({**event, "item": user_item("u1", typed("up"), {"type": "input_audio", "transcript": None})})
        await talk.until("history_updated")
        kept = history(talk)[0]["content"]
        assert [part["type"] for part in kept] == ["input_image", "input_text", "input_audio"]
        assert (kept[1]["text"], kept[2]["transcript"]) == ("up", "there")
        other = {"type": "input_image", "image_url": "data:image/png;base64,BBBB"}
        await model.emit({**event, "item": user_item("u1", typed(""), other)})
        await talk.until("history_updated")
        kept = history(talk)[0]["content"]
        assert [part.get("image_url", part.get("text")) for part in kept] == [
            image["image_url"],
            "up",
            other["image_url"],
        ]


async def test_an_answer_keeps_its_transcript_when_a_later_event_has_none(stage: Stage) -> None:
    async with answering(audio_turn("Hi there.", bytes(960))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("hello")
        ended = await talk.until("agent_end")
        assert ended["output"] == "Hi there."
        said = history(talk)[-1]
        silent = {
            "id": said["item_id"], "type": "message", "role": "assistant", "status": "in_progress",
            "content": [{"type": "output_audio", "transcript": None}],
        }  # fmt: skip
        await server.connections[0].emit({"type": "conversation.item.retrieved", "item": silent})
        await server.connections[0].emit({"type": "conversation.item.deleted", "item_id": "unknown"})
        await talk.say("again")
        await talk.until("history_added")
        last = history(talk)[-1]
        assert [part["transcript"] for part in last["content"]] == ["Hi there."]
        assert last["status"] == "completed", "nothing falls back from completed"


async def test_what_the_user_said_is_filled_in_when_it_was_transcribed(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.connections[0].emit(user_turn("What time is it?"))
        added = await talk.until("history_added")
        assert [part["type"] for part in added["item"]["content"]] == ["input_audio"]
        await talk.until("history_updated")
        heard = history(talk)[0]["content"]
        assert [(part["type"], part["transcript"]) for part in heard] == [("input_audio", "What time is it?")]


async def test_a_transcript_of_an_unknown_item_adds_one(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        kind = "conversation.item.input_audio_transcription.completed"
        await server.connections[0].emit(
            {"type": kind, "item_id": "lost", "content_index": 0, "transcript": "Hello?", "usage": {}}
        )
        added = await talk.until("history_added")
        assert added["item"]["item_id"] == "lost"
        assert [(part["type"], part["text"]) for part in added["item"]["content"]] == [("input_text", "Hello?")]


async def test_words_are_events_as_they_come_and_change_no_history_before_their_end(stage: Stage) -> None:
    for turn in (open_turn("One two three", bytes(960)), open_turn("One two three", kind="text")):
        async with answering(turn) as server, stage.conversation(ADA, server) as talk:
            await talk.say("count")
            await talk.until("transcript_delta", text="One two three")
            deltas = talk.of("transcript_delta")
            assert [delta["delta"] for delta in deltas] == ["One ", "two ", "three"]
            assert [delta["text"] for delta in deltas] == ["One ", "One two ", "One two three"]
            kinds = talk.kinds()
            first = kinds.index("transcript_delta")
            assert "history_updated" not in kinds[first:]
            assert {delta["role"] for delta in deltas} == {"assistant"}


async def test_a_written_answer_is_in_the_history_when_it_is_done(stage: Stage) -> None:
    async with answering(text_turn("Four.")) as server, stage.conversation(ADA, server) as talk:
        await talk.say("two and two?")
        await talk.until("agent_end")
        assert [(part["type"], part["text"]) for part in history(talk)[-1]["content"]] == [("text", "Four.")]


async def test_no_audio_is_asked_back_from_the_server_nor_kept(stage: Stage) -> None:
    async with answering(open_turn("Let me tell you", bytes(9600))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("tell me")
        await talk.until("audio")
        await server.connections[0].emit(barge_in("Stop."))
        await talk.until("audio_interrupted")
        await server.wait_for("conversation.item.truncate")
        await talk.until("history_updated")
        assert server.received("conversation.item.retrieve") == []
        assert [part for item in history(talk) for part in item["content"] if part.get("audio")] == []


async def test_a_call_and_its_output_are_one_item(stage: Stage) -> None:
    async with answering(function_call("nobody_has_it", call_id="c1"), text_turn("Sorry.")) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("do it")
            await talk.until("agent_end")
            await talk.until("agent_end")
            (call,) = [item for item in history(talk) if item["type"] == "function_call"]
            assert (call["call_id"], call["status"]) == ("c1", "completed")
            assert call["output"]
