"""Items that are said before they are told of, or never told of.

A server of the protocol announces an item, then says its words. A model of transport EVENTS is a program's own: it may
say words alone, or tell of their item at its end, without them. They are recorded all the same. What is spoken is in
the history at once, silently (parity 117); what is written waits for its item there, of which `history_added` tells.
"""

from voicebus.engine.config import Transport
from voicebus.engine.history import History
from voicebus.engine.responses import Response
from voicebus.engine.transcript import Transcript


class Untold:
    """`begun` at the first words of a part, `ended` once the model has ended their response."""

    def __init__(self, history: History, transcript: Transcript, transport: Transport) -> None:
        self._history = history
        self._transcript = transcript
        self._is_server = transport is Transport.WIRE

    def begun(self, response: Response, item_id: str, *, spoken: bool) -> None:
        """The response says something of this item, of which nothing may have been told."""
        if self._is_server:
            return
        item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress"}
        if spoken and not self._history.knows(item_id):
            self._history.put(item, None)
        self._transcript.open(item, None, response.agent.name, response)

    def ended(self, response: Response) -> None:
        """No more is said of the response's items, whether or not the model tells of that."""
        for item_id in () if self._is_server else response.texts:
            shown = self._history.item(item_id)
            if shown is not None and shown.get("status") == "in_progress":
                self._history.put({"id": item_id, "type": "message", "status": "completed"}, None)
            self._transcript.finished({"id": item_id})
        self._transcript.response_ended(response)
