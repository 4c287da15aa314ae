"""The quirk `reordered`: orders that the protocol leaves open, each the other way round than the simulator's own.

Only what sources or servers disagree on is moved; an item's beginning and the place of `response.done` stay.
"""

from collections.abc import Iterable
from typing import Any

JsonObject = dict[str, Any]

# Neighbours that change places. Deltas of one part are free among each other, so the last word follows its sound.
_SWAPPED = frozenset(
    {
        ("conversation.item.done", "response.output_item.done"),
        ("response.output_audio.done", "response.output_audio_transcript.done"),
        ("response.output_audio_transcript.delta", "response.output_audio.delta"),
    }
)
_TRANSCRIPTION = "conversation.item.input_audio_transcription."


class OtherOrders:
    """Rearranges one session's events; transcriptions wait for the end of the response that they came beside."""

    def __init__(self) -> None:
        # At most what is said by the user during one response.
        self._late: list[JsonObject] = []

    def of(self, events: Iterable[JsonObject], *, answering: bool) -> list[JsonObject]:
        """The events that go out now; `answering`: a response of the conversation is still active after them."""
        going: list[JsonObject] = []
        for event in events:
            if event["type"].startswith(_TRANSCRIPTION):
                self._late.append(event)
            elif going and (going[-1]["type"], event["type"]) in _SWAPPED:
                going.insert(-1, event)
            else:
                going.append(event)
        if not answering:
            going += self._late
            self._late.clear()
        return going
