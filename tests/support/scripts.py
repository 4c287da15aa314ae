"""Scripted servers for conversations of a few turns."""

from typing import Any

from voicebus.testing import ScriptedRealtimeServer, ServerStep
from voicebus.testing.server_steps import Emission


def answering(*turns: Emission) -> ScriptedRealtimeServer:
    """A server that answers each `response.create` with the next of `turns`."""
    return ScriptedRealtimeServer([ServerStep("response.create", turn) for turn in turns])


def outputs(server: ScriptedRealtimeServer) -> list[tuple[str, str]]:
    """What the model was told about its calls: `(call_id, output)`."""
    items = [event["item"] for event in server.received("conversation.item.create")]
    return [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]


def sent(server: ScriptedRealtimeServer, *kinds: str) -> list[str]:
    """The types of what was sent, of these kinds only, in order."""
    return [str(event["type"]) for event in server.received() if event["type"] in kinds]


def session_update(server: ScriptedRealtimeServer, number: int = -1) -> dict[str, Any]:
    """The settings that one of the full `session.update`s carried."""
    full = [event["session"] for event in server.received("session.update") if "tools" in event["session"]]
    return dict(full[number])
