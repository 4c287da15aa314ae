"""What a history's frames tell, and how little is done for those that tell most of it again."""

import json
import weakref
from typing import Any, Final

import pytest

from voicebus_services.gateway.faces import told_history
from voicebus_services.gateway.faces.base import event_frame
from voicebus_services.gateway.faces.told_history import ToldHistory

ABOUT: Final = (7, "01S", 1_700_000_000_000)


def item(number: int, text: str = "Good morning.") -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {
        "item_id": f"item_{number}",
        "previous_item_id": None,
        "type": "message",
        "role": "user",
        "content": content,
    }


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of items, each time that one is encoded."""
    ids: list[str] = []

    def dump_event(event: Any) -> bytes:
        ids.append(event["item_id"])
        return json.dumps(event).encode()

    monkeypatch.setattr(told_history, "dump_event", dump_event)
    return ids


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_frames_are_the_events_as_they_are(count: int) -> None:
    told = ToldHistory()
    history = [item(number, f"née {number} \ud83d \U0001f600") for number in range(count)]
    frame = told.updated(*ABOUT, history)
    assert bytes(frame) == event_frame("history_updated", *ABOUT, {"history": history})
    assert len(frame) == len(bytes(frame))
    for one in history:
        frame = told.added(*ABOUT, one)
        assert bytes(frame) == event_frame("history_added", *ABOUT, {"item": one})
        assert len(frame) == len(bytes(frame))


def test_of_a_long_history_only_what_has_changed_is_encoded(encoded: list[str]) -> None:
    told = ToldHistory()
    history: list[dict[str, Any]] = []
    for number in range(100):
        history.append(item(number))
        told.added(*ABOUT, history[-1])
        told.updated(*ABOUT, history)
        history[-1] = dict(history[-1])  # told once more, and nothing of it has changed
        told.updated(*ABOUT, history)
    assert encoded == [f"item_{number}" for number in range(100)]
    history[50] = item(50, "Good evening.")
    frame = told.updated(*ABOUT, history)
    assert encoded[100:] == ["item_50"]
    assert json.loads(bytes(frame))["history"] == history


class Item(dict[str, Any]):
    """One that can be referred to weakly."""


def test_an_item_that_was_told_once_more_is_remembered_as_it_was_told_last() -> None:
    told = ToldHistory()
    first, again = Item(item(0)), Item(item(0))
    former = weakref.ref(first)
    told.updated(*ABOUT, [first])
    del first
    told.updated(*ABOUT, [again])
    assert former() is None, "it would be compared with every frame, and keep its text in memory"


def test_frames_that_wait_have_their_items_in_common() -> None:
    told = ToldHistory()
    history = [item(number, "x" * 100_000) for number in range(10)]
    frames = [told.updated(*ABOUT, history) for _ in range(100)]
    assert len({id(piece) for frame in frames for piece in frame if len(piece) > 1000}) == 10


def test_an_item_that_is_gone_is_not_remembered(encoded: list[str]) -> None:
    told = ToldHistory()
    history = [item(0), item(1)]
    told.updated(*ABOUT, history)
    told.updated(*ABOUT, history[1:])
    told.updated(*ABOUT, history)
    assert encoded == ["item_0", "item_1", "item_0"]


def test_a_frame_says_what_it_said_when_it_was_made() -> None:
    told = ToldHistory()
    history = [item(0)]
    frame = told.updated(*ABOUT, history)
    history[0] = item(0, "Good evening.")
    told.updated(*ABOUT, history)
    assert "morning" in bytes(frame).decode()
