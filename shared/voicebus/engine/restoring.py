"""A session of another owner's that died: made again from what was kept of it (`keeping.py`), to be told to a socket.

It goes on as a session does whose model's socket was lost (`recovery.py`): what was being said is closed as
interrupted, and asked for again; calls that ran are dispatched again under their ids, those that wait for a person
wait on.
"""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.contracts.journal import EventType
from voicebus.engine.calls import Call, Stage
from voicebus.engine.config import AgentSpec, Recovering
from voicebus.engine.keeping import Kept, stage_of
from voicebus.engine.parts import Parts
from voicebus.engine.responses import Response

CAUSE: Final = "takeover"
MOVE: Final = "migrate"
"""Why the socket is another one: the session's owner has died, or has yielded."""

_Event = Mapping[str, Any]


def restore(parts: Parts, kept: Kept, *, cause: str = CAUSE) -> None:
    """Fill the parts of a new session; its first outputs are collected. No socket is open yet."""
    p = parts
    p.out.restore(seq=kept.seq, epoch=kept.epoch, elapsed_s=kept.elapsed_s)
    p.turns.connected_now = False
    attached = p.config.recovering is Recovering.ATTACH
    p.history.restore(kept.items if attached else [closed(item) for item in kept.items])
    to_come = {*kept.work.get("commits", ()), *kept.again}
    for item_id in to_come:
        p.history.remove(item_id)
    lines = [line for line in kept.work.get("lines", ()) if line[0] not in to_come]
    goes_on = _goes_on(p, kept) if attached else None
    p.transcript.restore(
        kept.recorded, lines, lambda item_id: _text(p.history.item(item_id)), goes_on, until_ms=kept.told_ms
    )
    p.turns.responses.answered = any(item.get("role") == "assistant" for item in kept.items)
    p.out.uplink.restore(kept.work.get("said", ()))
    # Without a socket this is what the next one is told.
    p.settings.configure()
    p.settings_sent()
    p.playback.leave(p.out.now)
    if goes_on is None:
        _cut_off(p, kept)
    _calls(p, kept, {**kept.agents, p.settings.agent.name: p.settings.agent})
    # On a call what ran goes on at the provider's, and answers by itself.
    owes = "owes_beside" if kept.again and len(kept.again) == len(kept.work["turns"]) else "owes"
    p.turns.awaited = bool(kept.work.get(owes)) and not (attached and "open" in kept.work)
    p.transcript.flush()
    p.out.observe("model_reconnect", cause=cause)
    p.out.record(EventType.MODEL_RECONNECTING, cause=cause, attempt=1)


def _goes_on(p: Parts, kept: Kept) -> Response | None:
    """The response that ran on a call, where it still does; whoever attaches finds out (`attaching.py`)."""
    if (running := kept.work.get("open")) is None:
        return None
    response = p.turns.responses.open(running[0], None)
    response.agent = kept.agents.get(running[1], p.settings.agent)
    response.started = response.announced = True
    return response


def _cut_off(p: Parts, kept: Kept) -> None:
    """The response that ran will not go on."""
    if (running := kept.work.get("open")) is None:
        return
    response_id, agent = running
    called = any(row[3] == response_id for row in kept.work.get("calls", ()))
    p.transcript.flush()
    status = "completed" if called else "incomplete"
    p.out.record(EventType.TURN_ENDED, response_id=response_id, agent=agent, status=status)


def _calls(p: Parts, kept: Kept, agents: Mapping[str, AgentSpec]) -> None:
    """What runs, and what waits for a person or for an agent, goes on; what is to be asked when that is over, too."""
    events = {str(event["call_id"]): event for event in kept.calls if "arguments" in event}
    for event in kept.calls:
        if event["type"] == EventType.TOOL_APPROVAL_DECIDED and event.get("always") and event.get("tool"):
            tool, whose = event["tool"], events.get(event["call_id"], {}).get("agent")
            known = agents.get(whose or "")
            p.calls.approvals.remember(
                tool,
                approved=event["approved"],
                message=event.get("message"),
                agent=whose,
                spec=None if known is None else known.function(tool),
            )
        elif "arguments" in event:
            p.calls.known.meet(event["call_id"], "function", event["tool"], event["arguments"])
    own = p.settings.agent
    responses: dict[str, Response] = {}
    for response_id, agent, continues, fresh, urgent, asked in kept.work.get("batches", ()):
        response = Response(response_id, agents.get(agent, own), p.out.now, active=False, continues=continues)
        responses[response_id] = response
        p.calls.batches.restore(response, fresh=fresh, urgent=urgent, asked=asked)
    for call_id, item_id, name, response_id, agent, stage, approved, started_ms, _ in kept.work.get("calls", ()):
        # Those in the background belong to no batch any more.
        response = responses.get(response_id) or Response(response_id, agents.get(agent, own), p.out.now, active=False)
        event = events.get(call_id, {})
        item = p.history.item(item_id) or {}
        arguments = item.get("arguments") or event.get("arguments") or ""
        call = Call(call_id, item_id, name, arguments, response, response.agent.function(name), approved=approved)
        since_ms = started_ms if started_ms is not None else event.get("at_ms")
        p.calls.known.meet(call.id, "function", name, arguments)
        p.calls.resume(call, stage_of(stage) or Stage.VETTING, p.out.ms() if since_ms is None else since_ms)
    p.calls.batches.settle()


def closed(item: dict[str, Any]) -> dict[str, Any]:
    """An item of the history, of which no more will come."""
    if item["type"] == "message" and item.get("status") == "in_progress":
        return {**item, "status": "incomplete"}
    return item


def _text(item: _Event | None) -> str:
    """What a message says."""
    parts = () if item is None else item.get("content", ())
    return " ".join(filter(None, (part.get("transcript") or part.get("text") for part in parts)))
