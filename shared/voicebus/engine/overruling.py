"""What a client has told the model past the session, on a call's data channel, that is not its to set.

Nobody asks first there: the model has taken it. The session hears of it (`session.updated`), and tells the model anew
what is the agent's: its instructions and its tools. The client's own tools stay, where it may have some.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec
from voicebus.engine.settings import in_order, own_tools, tool_key, wire_tools

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
