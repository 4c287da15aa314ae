"""The port between a session and its projection for clients of the OpenAI face (contract section 4).

The session is the master: it owns the sequencing of responses, tool calls and the settings. A `ClientView` only
translates, in both directions, and says what a client asks for. Both live in the engine, so both are pure.

What the view counts on:
- It is given every model event but audio deltas, in order, also those about items that the session made itself.
  Two exceptions: `session.updated` comes through `settings_changed`, and only for a client's update; events of a
  follow-up that is cancelled because its chain has ended already are not given at all.
- What a client sent goes to the model with the client's `event_id`, or with none; the session's own events carry ids
  that begin with `OWN_PREFIX`, and its own mark on a response is the metadata key `OWN_METADATA_KEY`. Clients may use
  neither.
- A call is the client's if the client declared its tool, for the session or for that response; else the server's.
- A response of the default conversation that completes with server calls only is withheld: the session calls
  `follow_up_expected` right before or after the view sees its end or, after it, `chain_ended`. Out-of-band responses
  are created with the client's tools alone and have no follow-ups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec

OWN_PREFIX: Final = "vb_"
OWN_METADATA_KEY: Final = "voicebus"


def public_metadata(metadata: Any) -> Any:
    """A response's metadata as those who asked for it gave them: without our mark, None where that was all."""
    if not isinstance(metadata, Mapping):
        return metadata
    return {key: value for key, value in metadata.items() if key != OWN_METADATA_KEY} or None


def public_event(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """A model's event as programs and clients see it who ask for all of them: without our mark on a response."""
    response = wire.mapping(event, "response")
    metadata = wire.mapping(response, "metadata")
    if OWN_METADATA_KEY not in metadata:
        return event
    return {**event, "response": {**response, "metadata": public_metadata(metadata)}}


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this server event to the client (an error, `session.updated`, ...)."""

    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Forward:
    """Send this client event to the model as it stands (item create/delete/truncate/retrieve, buffer commit/clear)."""

    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreateResponse:
    """The client wants a response. `response` are its parameters for the wire, server tools merged in already."""

    response: Mapping[str, Any]
    event_id: str | None


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """The client cancels; `response_id` is the model's id of the response now running, None where the chain rests."""

    response_id: str | None
    event_id: str | None


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """An allowed settings change of the client: a patch of the wire's session object, without tools.

    `tools` are the client's own tool definitions when the client sent some (they replace its earlier ones), else None;
    `listed` is the list as the client sent it, in which it may name tools of the agent's as well.
    `server_tools` are the keys of the agent's tools that it wants offered, None where that is not its to say.
    """

    patch: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]] | None
    event_id: str | None
    server_tools: frozenset[str] | None = None
    listed: Sequence[Mapping[str, Any]] | None = None


Intent = Reply | Forward | CreateResponse | CancelResponse | UpdateSession


class ClientView(Protocol):
    """Translates for one client. Methods are called by the session, in the order in which things happen."""

    def model_event(self, event: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """What the client sees of a model event (audio deltas excepted): nothing, itself rewritten, or several."""
        ...

    def audio_address(self, response_id: str, output_index: int) -> tuple[str, int]:
        """The response id and output index under which the client knows these (one response per chain)."""
        ...

    def client_event(self, event: Mapping[str, Any]) -> Sequence[Intent]:
        """What a client event asks for, checked against what clients may do."""
        ...

    def agent_changed(self, agent: AgentSpec) -> None:
        """The agent in charge: its tools and handoffs stay hidden, and it says what the client may do."""
        ...

    def settings_changed(self, session: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The model confirmed `session` as an answer to a *client's* update: the `session.updated` that it sees."""
        ...

    def hide_item(self, item_id: str) -> None:
        """The session itself creates this item (tool output, guardrail feedback): the client never sees it."""
        ...

    def follow_up_expected(self) -> None:
        """The session will create a response that continues the chain whose response just ended with server calls."""
        ...

    def continues(self, response_id: str) -> None:
        """A response is not the last of its chain, which rests when the view sees its end: it was cut off and will be
        asked for again, or it was said while tools run.
        """
        ...

    def chain_ended(self, *, status: str, reason: str) -> Sequence[Mapping[str, Any]]:
        """No follow-up will come: the synthesised `response.done` of a chain that rests, or nothing if none does.

        `status` is a response's final status; `reason` is its reason, for `failed` the error's code.
        """
        ...
