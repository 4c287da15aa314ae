"""What a session does for a client of the OpenAI face: shows it the model's events and carries out what it asks for.

How things look to the client is the `ClientView`'s business. Here is when a chain of responses rests, continues and
ends (contract section 4), and whose turn it is to be told of an error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import Recent
from voicebus.engine.offering import wire_tools
from voicebus.engine.outbox import Outbox
from voicebus.engine.responses import Create, Response
from voicebus.engine.settings import Settings
from voicebus.engine.toolcalls import ToolCalls
from voicebus.engine.turns import Turns
from voicebus.engine.view import CancelResponse, ClientView, CreateResponse, Forward, Intent, Reply, UpdateSession

_DELTAS: Final = frozenset({"response.output_text.delta", "response.output_audio_transcript.delta"})
_NOT_OF_PART: Final = ("event_id", "delta")


def error_event(
    code: str | None, message: str, param: str | None = None, event_id: str | None = None
) -> dict[str, Any]:
    """An `error` as the protocol's servers send it."""
    error = {
        "type": "invalid_request_error",
        "code": code,
        "message": message,
        "param": param,
        "event_id": event_id,
    }
    return {"type": "error", "error": error}


class ClientFace:
    """The session's half of the OpenAI face. `resting` is the response whose chain waits for its follow-up."""

    def __init__(self, out: Outbox, view: ClientView, turns: Turns, calls: ToolCalls, settings: Settings) -> None:
        self._out = out
        self._turns = turns
        self._calls = calls
        self._settings = settings
        self._client_tools: set[str] = set()
        self._unseen_items = Recent()
        self._afterwards: list[Callable[[], None]] = []
        # How the client saw the last delta of text, but for what was said; None where it did not see it.
        self._text_of: Mapping[str, Any] | None = None
        self.outgoing: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda event: event
        self.view = view
        self.is_open: bool = False
        self.resting: Response | None = None

    def agent_changed(self) -> None:
        self.view.agent_changed(self._settings.agent)

    def is_client_tool(self, name: str) -> bool:
        """Whether the client has declared a tool of this name: it answers the calls itself."""
        return name in self._client_tools

    def _declare(self, tools: Sequence[Mapping[str, Any]]) -> None:
        server = {wire.text(tool, "name") for tool in wire_tools(self._settings.agent)}
        self._client_tools |= {wire.text(tool, "name") for tool in tools} - server

    # --- to the client --------------------------------------------------------------------------------

    def show(self, event: Mapping[str, Any]) -> None:
        """Let the client see a model event, as far as it may, and then what had to come behind it."""
        shown = () if self._is_unseen(event) else self.view.model_event(event)
        for seen in shown:
            self._out.to_client(seen)
        if wire.text(event, "type") in _DELTAS:
            self._text_of = None
            for seen in shown:
                self._text_of = {key: value for key, value in seen.items() if key not in _NOT_OF_PART}
        afterwards, self._afterwards = self._afterwards, []
        for step in afterwards:
            step()

    def shows_on(self, response: Response) -> bool:
        """Whether more of the text that was shown last may be shown as that was."""
        return not (response.muted or response.unseen or self._afterwards or self._text_of is None)

    def show_on(self, delta: str) -> None:
        """One more delta of the text that was shown last: the path of nearly all text, where it `shows_on`."""
        self._out.to_client({**(self._text_of or {}), "delta": delta})

    def opened(self) -> None:
        """The conversation begins: the client meets it as newly created."""
        self.is_open = True
        self.show({"type": "session.created", "session": self._settings.shown})

    def settings_confirmed(self) -> None:
        for event in self.view.settings_changed(self._settings.shown):
            self._out.to_client(event)

    def refused(self, error: Mapping[str, Any], client_event_id: str | None) -> None:
        """The model refused what the session sent on the client's behalf."""
        self.show({"type": "error", "error": {**error, "event_id": client_event_id}})

    # --- chains ---------------------------------------------------------------------------------------

    def response_began(self, response: Response) -> None:
        """Before the client sees it: it continues the chain that rests, or ends it."""
        if self.resting is None or response.out_of_band or response.unseen:
            return
        if response.create is not None and response.create.interlude:
            response.create.follows = self.resting
        if response.create is not None and response.create.follows is self.resting:
            self.resting = None
        else:
            self.end_chain("cancelled", "turn_detected")

    def response_ended(self, response: Response, status: str) -> None:
        """Before the client sees it, and before the session goes on: whether the chain rests now."""
        chain = response.interlude_in
        if chain is not None and status != "cancelled" and self._is_awaited(chain):
            self.view.continues(response.model_id or response.id)
            self.resting = chain
            return
        if status in ("cancelled", "failed"):
            (response if chain is None else chain).continues = False
        follows = self._turns.will_follow(response) or self._turns.is_outstanding_for(response)
        if response.tripped and follows and not response.client_calls:
            # What a guardrail has stopped, and what is said for it: to the client that is one answer.
            self.will_continue(response)
            return
        if response.out_of_band or status != "completed" or response.client_calls or response.unseen:
            return
        if self._calls.batches.expects_follow_up(response):
            self.view.follow_up_expected()
            self.resting = response
        elif self._calls.batches.has(response):
            self._afterwards.append(lambda: self._synthesise("completed", ""))

    def _is_awaited(self, chain: Response) -> bool:
        """Whether an answer will follow this response's calls."""
        return self._calls.batches.expects_follow_up(chain) or self._turns.will_follow(chain)

    def speech_started(self) -> None:
        """Speech while a tool runs ends the chain; a follow-up that is with the model already ends by itself."""
        if self.resting is not None and not self._turns.is_outstanding_for(self.resting):
            self._afterwards.append(lambda: self.end_chain("cancelled", "turn_detected"))
        self._afterwards.append(self._calls.interrupted)

    def create_refused(self, create: Create, error: Mapping[str, Any]) -> None:
        if create.interlude:
            return
        if self.resting is not None and create.follows is self.resting:
            self.end_chain("failed", wire.text(error, "code") or "server_error")
        elif create.manual:
            self.refused(error, create.client_event_id)

    def will_continue(self, response: Response) -> None:
        """The response was cut off and will be asked for again: to the client it is one, which rests meanwhile."""
        if not response.unseen:
            self.view.continues(response.model_id or response.id)
            self.resting = response

    def end_chain(self, status: str, reason: str) -> None:
        """No follow-up will come; results that are still to come are given to the model without one."""
        if self.resting is None:
            return
        self.resting.continues = False
        self._turns.withdraw(self.resting)
        self.resting = None
        self._synthesise(status, reason)

    def _synthesise(self, status: str, reason: str) -> None:
        for event in self.view.chain_ended(status=status, reason=reason):
            self._out.to_client(event)

    # --- from the client ------------------------------------------------------------------------------

    def client_event(self, event: Mapping[str, Any]) -> None:
        for intent in self.view.client_event(event):
            self._carry_out(intent)

    def _carry_out(self, intent: Intent) -> None:
        match intent:
            case Reply(event):
                self._out.to_client(event)
            case Forward(event):
                if _ends_turn(event):
                    self._turns.responses.user_turn_ended()
                self._out.pass_on(self.outgoing(event))
            case CreateResponse(response, event_id):
                self._declare(wire.mappings(response, "tools"))
                if not self._turns.request_manual(response, event_id):
                    message = "Too many responses are waiting to be created; wait until one is done."
                    self._out.to_client(error_event("too_many_pending_responses", message, event_id=event_id))
            case CancelResponse(None):
                if self.resting is not None:
                    self.end_chain("cancelled", "client_cancelled")
                else:
                    self._turns.withdraw()
                self._calls.interrupted()
            case CancelResponse(str() as response_id, event_id):
                cancelled = self._turns.responses.by_id.get(response_id)
                if cancelled is not None:
                    cancelled.continues = False
                    self._turns.withdraw(cancelled)
                    self._turns.cancel(cancelled, event_id=event_id)
                    self._calls.interrupted()
            case UpdateSession():
                self._declare(intent.tools or ())
                self._settings.change(intent)

    def _is_unseen(self, event: Mapping[str, Any]) -> bool:
        """Follow-ups of an ended chain, and text that still comes of a response that was stopped."""
        response_id = wire.text(event, "response_id") or wire.text(wire.mapping(event, "response"), "id")
        item_id = wire.text(event, "item_id") or wire.text(wire.mapping(event, "item"), "id")
        response = self._turns.responses.by_id.get(response_id)
        if response is None:
            return item_id in self._unseen_items
        if response.unseen:
            if item_id and item_id not in self._unseen_items:
                self._unseen_items.add(item_id)
                self.view.hide_item(item_id)
            return True
        return response.muted and wire.text(event, "type") in _DELTAS


def _ends_turn(event: Mapping[str, Any]) -> bool:
    kind = wire.text(event, "type")
    if kind == "conversation.item.create":
        return wire.text(wire.mapping(event, "item"), "role") == "user"
    return kind == "input_audio_buffer.commit"
