"""Items of the history, as programs see them (parity G)."""

import pytest

from support.scripts import answering
from support.stages import Stage
from voicebus import (
    AssistantAudio,
    AssistantMessageItem,
    AssistantText,
    InputAudio,
    InputImage,
    InputText,
    RealtimeAgent,
    RealtimeToolCallItem,
    SystemMessageItem,
    UserMessageItem,
    function_tool,
)
from voicebus.testing import audio_turn, function_call, text_turn, user_turn

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


async def test_messages_keep_their_parts_under_the_names_that_programs_know(stage: Stage) -> None:
    async with (
        answering(text_turn("A dot.")) as server,
        stage.conversation(RealtimeAgent("Ada"), server) as talk,
    ):
        await talk.say(
            [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": PIXEL, "detail": "low"},
            ]
        )
        await talk.until("agent_end")
    asked, answered = talk.of("history_updated")[-1]["history"]
    assert (asked["type"], asked["role"]) == ("message", "user")
    assert asked["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
    ]
    assert (answered["role"], answered["status"]) == ("assistant", "completed")
    assert answered["content"] == [{"type": "text", "text": "A dot."}]


async def test_spoken_words_of_both_are_audio_with_a_transcript_and_no_samples(stage: Stage) -> None:
    async with (
        answering(audio_turn("Hello.")) as server,
        stage.conversation(RealtimeAgent("Ada"), server) as talk,
    ):
        await server.wait_for("session.update")
        await server.connections[0].emit(user_turn("Is anyone there?"))
        await talk.until("history_updated")
        await talk.say("hello?")
        await talk.until("agent_end")
    items = talk.of("history_updated")[-1]["history"]
    assert items[0]["content"] == [{"type": "input_audio", "audio": None, "transcript": "Is anyone there?"}]
    assert items[2]["content"] == [{"type": "audio", "audio": None, "transcript": "Hello."}]


async def test_an_answer_is_in_progress_until_it_is_complete(stage: Stage) -> None:
    async with (
        answering(text_turn("Hi.")) as server,
        stage.conversation(RealtimeAgent("Ada"), server) as talk,
    ):
        await talk.say("hello")
        await talk.until("agent_end")
    assert talk.of("history_added")[-1]["item"]["status"] == "in_progress"
    assert talk.of("history_updated")[-1]["history"][-1]["status"] == "completed"


async def test_a_call_and_its_result_are_one_item(stage: Stage) -> None:
    async with (
        answering(function_call("weather", {"city": "Rome"}, call_id="c1"), audio_turn("Clear.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[weather]), server) as talk,
    ):
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
    (added,) = [event["item"] for event in talk.of("history_added") if event["item"]["type"] == "function_call"]
    assert (added["call_id"], added["name"], added["arguments"]) == ("c1", "weather", '{"city": "Rome"}')
    assert (added["status"], added["output"]) == ("in_progress", None)
    (call,) = [item for item in talk.of("history_updated")[-1]["history"] if item["type"] == "function_call"]
    assert (call["item_id"], call["status"], call["output"]) == (added["item_id"], "completed", "clear in Rome")


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (SystemMessageItem(item_id="a", content=[InputText(text="Be kind.")]), "message"),
        (UserMessageItem(item_id="a", content=[InputAudio(transcript="Hi."), InputImage(image_url=PIXEL)]), "message"),
        (AssistantMessageItem(item_id="a", status="incomplete", content=[AssistantText(text="Hi.")]), "message"),
        (AssistantMessageItem(item_id="a", content=[AssistantAudio(transcript="Hi.")]), "message"),
        (
            RealtimeToolCallItem(item_id="a", call_id="c", status="completed", arguments="{}", name="x", output="1"),
            "function_call",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_items_are_models_that_keep_what_a_server_adds(item: SystemMessageItem, kind: str) -> None:
    """In process only: the objects; through the cluster their JSON."""
    assert (item.type, item.previous_item_id) == (kind, None)
    read = type(item).model_validate({**item.model_dump(), "vendor": 1})
    assert read.model_dump()["vendor"] == 1
