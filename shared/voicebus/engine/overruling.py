"""What a client has told the model past the session, on a call's data channel, that is not its to set.

Nobody asks first there: the model has taken it. The session hears of it (`session.updated`), and tells the model anew
what is the agent's: its instructions and its tools. The client's own tools stay, where it may have some. An answer that
the model has begun in between is stopped and asked for again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec
from voicebus.engine.offering import in_order, own_tools, tool_key, wire_tools
from voicebus.engine.responses import Response
from voicebus.engine.settings import Settings
from voicebus.engine.turns import Turns

Session = Mapping[str, Any]


def clients_tools(agent: AgentSpec, session: Session) -> Sequence[Session]:
    """The tools of this session object that are the client's, and may be."""
    return own_tools(agent, wire.mappings(session, "tools")) if agent.client.allows("tools") else ()


def overruled(agent: AgentSpec, told: Session, session: Session) -> dict[str, Any]:
    """What of `session`, as the model confirms it, has to be set as it was `told`; nothing where all is well."""
    patch: dict[str, Any] = {}
    for name in ("instructions", "prompt"):
        if name in session and not agent.client.allows(name) and session[name] != told.get(name) and name in told:
            patch[name] = told[name]
    if session.get("prompt") is not None and "prompt" not in told and not agent.client.allows("prompt"):
        patch["prompt"] = None
    if isinstance(session.get("tools"), list):
        listed, own = wire.mappings(session, "tools"), wire_tools(agent)
        clients = clients_tools(agent, session)
        known = {tool_key(tool): wire.text(tool, "description") for tool in listed}
        is_whole = all(known.get(tool_key(tool)) == wire.text(tool, "description") for tool in own)
        if not is_whole or len(clients) < len(own_tools(agent, listed)):
            patch["tools"] = in_order(clients, own)
    return patch


class Overruling:
    """What the model follows, the agent or somebody past us. `has_calls`: whether a response has called tools."""

    def __init__(self, settings: Settings, turns: Turns, has_calls: Callable[[Response], bool]) -> None:
        self._settings = settings
        self._turns = turns
        self._has_calls = has_calls
        self._found: dict[str, Any] = {}
        self._told: Session = {}
        # From when the model is told anew until it is known to follow that.
        self._is_misled = False
        # What was stopped, and behind which correction.
        self._misled: Response | None = None
        self._behind: Session = {}

    def greeted(self, session: Session) -> None:
        """`session.created`: of what the agent leaves open, this is what the model's provider has chosen."""
        self._settings.greeted()
        if not self._found:
            self._found.update((name, session[name]) for name in ("instructions", "prompt") if name in session)

    def heard(self, session: Session) -> None:
        """The model has confirmed settings that may be those of somebody who speaks to it past us."""
        settings, agent = self._settings, self._settings.agent
        if isinstance(session.get("tools"), list):
            settings.client_tools(clients_tools(agent, session))
        patch = overruled(agent, {**self._found, **settings.taken}, session)
        # Once: one that still says otherwise is not told again.
        self._is_misled = bool(patch) and patch != self._told
        if self._is_misled:
            settings.correct(patch)
        self._told = patch

    def began(self, response: Response, payload: Session) -> None:
        """`response.created`: what belongs to no conversation is the client's own affair."""
        if self._is_misled and payload.get("conversation_id", "") is not None:
            self._misled, self._behind = response, self._told
            self._turns.cancel(response)

    def ended(self, response: Response, payload: Session) -> None:
        """`response.done`: what was stopped is asked for again, behind what the model was told anew."""
        if self._misled is not response:
            return
        self._misled = None
        reason = wire.text(wire.mapping(payload, "status_details"), "reason")
        if wire.text(payload, "status") != "cancelled" or reason == "turn_detected":
            return
        # The cancel came behind what the model was told anew: it has taken that by now, or never will. Without this
        # the answers of a model that refuses it, or confirms nothing, would be stopped and asked for without end.
        self._is_misled = self._is_misled and self._told is not self._behind
        stopped_by_others = response.muted or response.unwanted
        if not (stopped_by_others or self._has_calls(response)):
            self._turns.again(response)
