"""The projection of a session for clients of `WS /v1/realtime`: contract section 4, as pure translation.

The single home of what such a client sees of the model's events, and of what its own events ask for. Beside it:
`client_chain` (one response made of several), `client_conversation` (order and hidden items), `client_tools` (whose
tool is it), `client_settings` (the session object; also what becomes of the settings that unmodified clients send),
`client_requests` (shape of client events) and `client_errors` (the protocol's errors).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import REMEMBERED, trim
from voicebus.engine.client_chain import Chain
from voicebus.engine.client_conversation import Conversation
from voicebus.engine.client_errors import (
    ClientEventError,
    active_response,
    no_active_response,
    no_previous_item,
    no_such_item,
)
from voicebus.engine.client_requests import ItemRules, event_id_of, response_parameters, type_of
from voicebus.engine.client_settings import ClientSettings
from voicebus.engine.client_tools import Tools
from voicebus.engine.config import AgentSpec, SessionConfig
from voicebus.engine.failures import without_key
from voicebus.engine.view import (
    OWN_PREFIX,
    CancelResponse,
    CreateResponse,
    Forward,
    Intent,
    Reply,
)

Event = Mapping[str, Any]
# Chains that run at once, by the ids of their responses; clients have one, and some beside the conversation.
_MAX_CHAINS: Final = 256


class OpenAIClientView:
    """The `ClientView` of one client of the OpenAI face. Never raises for what a client or a model sends."""

    def __init__(self, config: SessionConfig) -> None:
        self._tools = Tools(config.agent)
        self._settings = ClientSettings(config, self._tools)
        self._conversation = Conversation()
        self._items = ItemRules(self._conversation, self._tools)
        # The default conversation's chain until its `response.done`; all open chains by the ids of their responses.
        self._chain: Chain | None = None
        self._chains: dict[str, Chain] = {}
        # Follow-ups of ended chains: `output_audio_buffer.*` events name a response after its end.
        self._ended: dict[str, str] = {}
        self._follow_up_expected = False
        self._out_of_band_asked = False

    # --- the model's side ---------------------------------------------------------------------------------------

    def model_event(self, event: Event) -> Sequence[Event]:
        match event.get("type"):
            case "session.created":
                return [{"type": "session.created", "session": self._settings.show(_mapping(event, "session"))}]
            case "session.updated":
                return []
            case "error":
                return self._error(event)
            case "response.created":
                return self._response_created(event)
            case "response.done":
                return self._response_done(event)
            case "conversation.item.added" | "conversation.item.created":
                self._place(event)
            case "rate_limits.updated" if self._rests:
                return []  # those of a response that the client does not see end; the chain's last one brings the news
            case "conversation.item.deleted":
                if item_id := _text(event, "item_id"):
                    self._conversation.remove(item_id)
            case str(kind) if kind.startswith("conversation.item.input_audio_transcription."):
                if self._settings.transcription_hidden:
                    return []
            case _:
                pass
        return self._rewritten(event)

    def audio_address(self, response_id: str, output_index: int) -> tuple[str, int]:
        chain = self._chains.get(response_id)
        if chain is None:
            return self._ended.get(response_id, response_id), output_index
        return chain.id, chain.index(response_id, output_index)

    def settings_changed(self, session: Mapping[str, Any]) -> Sequence[Event]:
        return [{"type": "session.updated", "session": self._settings.confirmed(session)}]

    def agent_changed(self, agent: AgentSpec) -> None:
        self._settings.agent_changed(agent)
        self._tools.replace_server(agent)

    def hide_item(self, item_id: str) -> None:
        self._conversation.hide(item_id)

    def follow_up_expected(self) -> None:
        self._follow_up_expected = self._chain is not None

    def continues(self, response_id: str) -> None:
        chain = self._chains.get(response_id)
        if chain is not None and chain is self._chain:
            chain.cut = True
            self._follow_up_expected = True

    def chain_ended(self, *, status: str, reason: str) -> Sequence[Event]:
        if self._chain is None or not self._rests:
            return []
        chain = self._chain
        self._forget(chain)
        return [_response_event("response.done", chain.ended(status, reason))]

    @property
    def _rests(self) -> bool:
        return self._chain is not None and self._chain.running is None

    def _response_created(self, event: Event) -> Sequence[Event]:
        response = _mapping(event, "response")
        response_id = _text(response, "id")
        if response_id is None:
            return []
        if self._out_of_band_asked and "conversation_id" in response and response["conversation_id"] is None:
            chain = self._chains[response_id] = Chain(response_id, response)
            self._bound_chains()
            return [_response_event("response.created", chain.created())]
        if self._chain is not None and self._follow_up_expected:
            self._follow_up_expected = False
            self._chain.resume(response_id)
            self._chains[response_id] = self._chain
            self._bound_chains()
            return []
        # The model began another turn by itself before the session said what becomes of the resting chain.
        ended = self.chain_ended(status="cancelled", reason="turn_detected")
        self._chain = self._chains[response_id] = Chain(response_id, response)
        self._bound_chains()
        return [*ended, _response_event("response.created", self._chain.created())]

    def _response_done(self, event: Event) -> Sequence[Event]:
        response = _mapping(event, "response")
        response_id = _text(response, "id")
        chain = self._chains.get(response_id or "")
        if chain is None or chain.running != response_id:
            return []
        output = response.get("output")
        visible = [item for item in output if not self._hides(item, chain)] if isinstance(output, list) else []
        if chain.finish(response, visible) and chain is self._chain:
            return []
        self._forget(chain)
        return [_response_event("response.done", chain.done())]

    def _bound_chains(self) -> None:
        if len(self._chains) > _MAX_CHAINS:
            self._forget(next(iter(self._chains.values())))

    def _forget(self, chain: Chain) -> None:
        """A chain has ended; only the ids of its follow-ups are kept."""
        for response_id in chain.responses:
            self._chains.pop(response_id, None)
            if response_id != chain.id:
                self._ended[response_id] = chain.id
        trim(self._ended, REMEMBERED)
        if chain is self._chain:
            self._chain = None
            self._follow_up_expected = False

    def _place(self, event: Event) -> None:
        """Keep the mirror of the conversation's order."""
        item_id = _text(_mapping(event, "item"), "id")
        if item_id is None:
            return
        if "previous_item_id" in event:
            self._conversation.add(item_id, behind=_text(event, "previous_item_id"))
        else:
            self._conversation.append(item_id)

    def _hides(self, item: object, chain: Chain | None = None) -> bool:
        """Whether the client must not see `item`; what is learned from it is kept."""
        if not wire.is_mapping(item):
            return False
        kind, item_id, call_id = item.get("type"), _text(item, "id"), _text(item, "call_id")
        name = item.get("name")
        # Without a response it may be history that the client itself replays: there, only the server's names count.
        is_servers = self._tools.is_server(name) if chain is None else not self._tools.is_client(name)
        server_call = kind == "function_call" and is_servers
        # What hosted MCP servers of the server's do is its own business, like its functions.
        hosted = (
            isinstance(kind, str)
            and kind.startswith("mcp_")
            and self._tools.is_servers_hosted(item.get("server_label"))
        )
        # A call stays the server's after a handoff took its tool away.
        hidden = server_call or hosted or self._conversation.hides(item_id) or (call_id in self._items.server_calls)
        if hidden and item_id is not None:
            self._conversation.hide(item_id)
        if server_call and call_id is not None:
            self._items.server_calls.add(call_id)
        if hidden and kind in ("function_call", "mcp_approval_request") and chain is not None:
            chain.server_called = True
        return hidden

    def _rewritten(self, event: Event) -> Sequence[Event]:
        """Any other event: dropped if it is about what is hidden, else in the client's ids, indexes and order."""
        response_id, output_index = _text(event, "response_id"), event.get("output_index")
        chain = self._chains.get(response_id or "")
        item = event.get("item")
        if self._hides(item, chain) or self._conversation.hides(event.get("item_id")):
            return []
        if _text(event, "call_id") in self._items.server_calls:
            return []
        seen = {key: value for key, value in event.items() if key != "event_id"}
        if response_id in self._ended:
            seen["response_id"] = self._ended[response_id]
        elif chain is not None and response_id is not None:
            seen["response_id"] = chain.id
            if wire.is_mapping(item):
                chain.see(item)
        elif response_id is None and self._chain is not None:
            # Events of the model's own MCP calls name no response: they belong to the one that runs.
            chain, response_id = self._chain, self._chain.running
        if chain is not None and response_id is not None and isinstance(output_index, int):
            seen["output_index"] = chain.index(response_id, output_index)
        if "previous_item_id" in seen:
            seen["previous_item_id"] = self._conversation.last_visible(_text(event, "previous_item_id"))
        return [seen]

    def _error(self, event: Event) -> Sequence[Event]:
        error = without_key(_mapping(event, "error"))
        event_id, message = _text(error, "event_id"), _text(error, "message") or ""
        if event_id is not None and event_id.startswith(OWN_PREFIX):
            return []
        # Not every error carries the event id: one about an item of the session's own can only be the session's.
        if event_id is None and self._conversation.hidden_in(message):
            return []
        self._settings.refused(error)
        if self._chain is not None and self._chain.running is not None:
            message = message.replace(self._chain.running, self._chain.id)
        return [{"type": "error", "error": {**error, "message": message}}]

    # --- the client's side --------------------------------------------------------------------------------------

    def client_event(self, event: Event) -> Sequence[Intent]:
        event_id = None
        try:
            event_id = event_id_of(event)
            return [self._intent(type_of(event), event, event_id)]
        except ClientEventError as error:
            return [Reply(error.event(event_id))]

    def _intent(self, kind: str, event: Event, event_id: str | None) -> Intent:
        match kind:
            case "session.update":
                return self._settings.update(event["session"], event_id)
            case "response.create":
                return self._create(event.get("response") or {}, event_id)
            case "response.cancel":
                return self._cancel(_text(event, "response_id"), event_id)
            case "conversation.item.create":
                return self._insert(event)
            case "conversation.item.retrieve" | "conversation.item.delete" | "conversation.item.truncate":
                if self._conversation.hides(item_id := event["item_id"]):
                    raise no_such_item(kind.rpartition(".")[2], item_id)
                return Forward(event)
            case _:
                return Forward(event)

    def _create(self, response: Mapping[str, Any], event_id: str | None) -> Intent:
        parameters = response_parameters(response, settings=self._settings, tools=self._tools, items=self._items)
        if response.get("conversation") == "none":
            self._out_of_band_asked = True
        elif self._chain is not None:
            raise active_response(self._chain.id)
        return CreateResponse(parameters, event_id)

    def _cancel(self, response_id: str | None, event_id: str | None) -> Intent:
        chain = self._chain if response_id is None else self._chains.get(response_id)
        if chain is None or (response_id is not None and response_id != chain.id):
            raise no_active_response()
        return CancelResponse(chain.running, event_id)

    def _insert(self, event: Event) -> Intent:
        self._items.check(event["item"], "item")
        previous = _text(event, "previous_item_id")
        if self._conversation.hides(previous):
            raise no_previous_item(previous or "")
        if previous is None:
            return Forward(event)
        return Forward({**event, "previous_item_id": self._conversation.last_hidden_follower(previous)})


def _text(mapping: Event, key: str) -> str | None:
    value = mapping.get(key)
    return value if isinstance(value, str) else None


def _mapping(event: Event, key: str) -> Mapping[str, Any]:
    value = event.get(key)
    return value if wire.is_mapping(value) else {}


def _response_event(kind: str, response: Mapping[str, Any]) -> Event:
    return {"type": kind, "response": response}
