"""What the model is told about the session: composes `session.update`, and knows which of them are unanswered.

Three layers, later ones win: the agent's part, what a client of the OpenAI face changed (this survives handoffs), and
the rule that a voice cannot change once audio was spoken (protocol 4.3). What the program itself changes is told to the
model and lasts until the next agent, whose settings are sent whole (parity 2.21). Tracing goes by itself, after
`session.created`, and again only where it changes (parity 42, 130).
"""

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.config import AgentSpec, ClientRights, Transport
from voicebus.engine.offering import offered_tools, tool_key, wire_tools, with_tools
from voicebus.engine.outbox import Outbox
from voicebus.engine.view import UpdateSession

# Objects that merge field by field; everything else is replaced whole (protocol 4.2).
_MERGED: Final = frozenset({"audio", "audio.input", "audio.output"})
# Updates whose answer is waited for; a server that answers none gets there.
_MAX_UNANSWERED: Final = 64
_DEFAULT_FORMAT: Final[Mapping[str, Any]] = {"type": "audio/pcm", "rate": 24000}
# What the model does where nobody has said how turns are detected.
_DEFAULT_DETECTION: Final[Mapping[str, Any]] = {
    "type": "server_vad",
    "create_response": True,
    "interrupt_response": True,
}


def merge(base: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """`base` with `patch` over it, by the protocol's merge rule."""
    merged = dict(base)
    for key, value in patch.items():
        here = f"{path}{key}"
        old = merged.get(key)
        if here in _MERGED and isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = merge(old, value, f"{here}.")
        else:
            merged[key] = value
    return merged


def allowed_part(patch: Mapping[str, Any], rights: ClientRights, path: str = "") -> dict[str, Any]:
    """What of a client's settings it may set by these rights."""
    kept: dict[str, Any] = {}
    for key, value in patch.items():
        here = f"{path}{key}"
        if here == "type" or rights.allows(here):
            kept[key] = value
        elif isinstance(value, Mapping) and (part := allowed_part(value, rights, f"{here}.")):
            kept[key] = part
    return kept


def _voiceless(session: Mapping[str, Any]) -> dict[str, Any]:
    audio = wire.mapping(session, "audio")
    output = {key: value for key, value in wire.mapping(audio, "output").items() if key != "voice"}
    return {**session, "audio": {**audio, "output": output}}


def detecting(detection: Mapping[str, Any] | None) -> dict[str, Any]:
    """A session with nothing but how turns are detected; None means that they are not."""
    return {"audio": {"input": {"turn_detection": detection}}}


def detection_of(session: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How `session` has turns detected."""
    given = wire.mapping(wire.mapping(session, "audio"), "input")
    detection = given.get("turn_detection", _DEFAULT_DETECTION)
    return detection if isinstance(detection, Mapping) else None


@dataclass(slots=True)
class Update:
    """A `session.update` without its answer. `intent` is the client's wish that it carries, None for our own.

    `first` is the session's first configuration, without which there is no agent. `before` is the agent as it was when
    the client asked, with the tools that were offered then. `ours`: an agent's settings, not asked for by name.
    """

    id: str
    session: Mapping[str, Any]
    intent: UpdateSession | None = None
    first: bool = False
    before: AgentSpec | None = None
    ours: bool = False


class Settings:
    """The settings in force and on their way. `effective` is the session as the model last confirmed it.

    A model of transport EVENTS, and a server until it first confirms something, are taken to do what they are told.
    """

    def __init__(self, out: Outbox, model: str, agent: AgentSpec, transport: Transport = Transport.WIRE) -> None:
        self._out = out
        # Named in every update until a server refuses that: a session that is joined has its model.
        self._model: Mapping[str, Any] = {"model": model}
        self._confirms = transport is Transport.WIRE
        self._accepted: Mapping[str, Any] = {}
        self._client_tools: Sequence[Mapping[str, Any]] = ()
        self._unanswered: deque[Update] = deque(maxlen=_MAX_UNANSWERED)
        self._instructed = False
        self._confirmed = False
        self._configured = False
        self._greeted = False
        self._traced: Any = None
        self.agent: AgentSpec = agent
        self._whole = agent
        self.voice_locked: bool = False
        self.creates_responses: bool = True
        self._held_back = False
        # What the model was told and did not refuse; what it says of itself beside that is never added up.
        self._told: Mapping[str, Any] = self._compose()
        self.effective: Mapping[str, Any] = self._told

    @property
    def formats(self) -> dict[str, dict[str, Any]]:
        """The formats of the client's audio: `input` and `output`."""
        audio = wire.mapping(self.effective, "audio")
        given = {side: wire.mapping(wire.mapping(audio, side), "format") for side in ("input", "output")}
        return {side: dict(audio_format or _DEFAULT_FORMAT) for side, audio_format in given.items()}

    @property
    def turn_detection(self) -> Mapping[str, Any] | None:
        """The VAD settings in force, None where turns are manual."""
        detection = wire.mapping(wire.mapping(self.effective, "audio"), "input").get("turn_detection")
        return detection if isinstance(detection, Mapping) else None

    @property
    def server_interrupts(self) -> bool:
        """Whether the model itself cancels its response when the user speaks."""
        detection = self.turn_detection
        return detection is not None and detection.get("interrupt_response") is True

    @property
    def answers_by_itself(self) -> bool:
        """Whether the model answers a turn that it has detected without being asked."""
        detection = self.turn_detection
        return detection is not None and detection.get("create_response") is not False

    @property
    def transcribes(self) -> bool:
        """Whether transcripts of user audio are to be expected."""
        return bool(wire.mapping(wire.mapping(self.effective, "audio"), "input").get("transcription"))

    @property
    def shown(self) -> Mapping[str, Any]:
        """`effective` as a client knows it: who really begins responses is the session's own affair."""
        detection = self.turn_detection
        if detection is None or not self._held_back or "create_response" not in detection:
            return self.effective
        return merge(self.effective, detecting({**detection, "create_response": self.creates_responses}))

    def adopt(self, agent: AgentSpec) -> None:
        """Put `agent` in charge and tell the model everything."""
        self.agent = self._whole = agent
        # What a client set with the last agent counts for this one as far as this one lets it.
        self._accepted = allowed_part(self._accepted, agent.client)
        self._client_tools = self._client_tools if agent.client.allows("tools") else ()
        self.configure()

    @property
    def whole(self) -> AgentSpec:
        """The agent in charge with all its tools, whichever of them a client has chosen."""
        return self._whole

    def retool(self, agent: AgentSpec) -> None:
        """Tell the model that the agent in charge has other tools now; of a client's choice what there is still."""
        chosen = None if self.agent is self._whole else {tool_key(tool) or "" for tool in wire_tools(self.agent)}
        self._whole = agent
        self.agent = agent if chosen is None else with_tools(agent, chosen)
        tools = offered_tools(self.agent, self._wanted_tools())
        self._send(Update(self._out.mint(), {"type": "realtime", "tools": tools}))

    def configure(self) -> None:
        """Send one full `session.update`. A model of transport EVENTS got the first settings when it was connected."""
        session = self._compose()
        session.pop("tracing", None)
        if self.agent.instructions is None and self._instructed:
            # Absent means unchanged on the wire: the last agent's instructions must not outlive it.
            session["instructions"] = ""
        self._instructed = "instructions" in session
        session = self._hold_back(session, full=True)
        first, self._configured = not self._configured, True
        if self._confirms or not first:
            self._send(Update(self._out.mint(), session, first=first, ours=True))
        if self._greeted:
            self._trace()

    # --- another socket ---------------------------------------------------------------------------------

    @property
    def confirms(self) -> bool:
        """Whether the model has ever confirmed what it was told."""
        return self._confirmed

    @property
    def is_quiet(self) -> bool:
        """Whether the model has answered every update."""
        return not self._unanswered

    @property
    def unanswered(self) -> list[Update]:
        """The updates that the model has not answered."""
        return list(self._unanswered)

    @property
    def taken(self) -> Mapping[str, Any]:
        """What the model was told and did not refuse, by us."""
        return self._told

    @property
    def told(self) -> Mapping[str, Any]:
        """The session as a socket is to know it that knows nothing yet: all that the model was told and took."""
        first = next((update.session for update in self._unanswered if update.first), {})
        return {**merge(self._told, first), "type": "realtime", **self._model}

    def serve(self, model: str) -> None:
        """From now on this model serves the session."""
        self._model = {"model": model}

    def moved(self, session: Mapping[str, Any] | None) -> None:
        """Another socket knows what was `told`; what the last one left unanswered is sent again.

        `session` is how it has confirmed itself, where it did.
        """
        self._told = self.told
        self.effective = merge(self._told, session if session is not None else self._told)
        self.voice_locked = False
        updates = [update for update in self._unanswered if not update.first]
        self._unanswered.clear()
        for update in updates:
            self._send(update)

    def greeted(self) -> None:
        """`session.created` came: now tracing can be set."""
        if not self._greeted:
            self._greeted = True
            self._trace()

    def _trace(self) -> None:
        tracing = self.agent.session.get("tracing")
        if tracing is not None and tracing != self._traced:
            self._traced = tracing
            session = {"type": "realtime", **self._model, "tracing": tracing}
            self._send(Update(self._out.mint(), session, ours=True))

    def patch(self, patch: Mapping[str, Any], event: Mapping[str, Any] | None = None) -> None:
        """The program's own change, or its raw `event` that makes one: lasts until the next agent's settings."""
        self._instructed = self._instructed or "instructions" in patch
        if event is not None:
            update_id = wire.text(event, "event_id") or self._out.mint()
            self._send(Update(update_id, self._hold_back(dict(patch))), event)
        else:
            self._send(Update(self._out.mint(), self._hold_back(self._keep_voice({**patch, "type": "realtime"}))))

    def change(self, intent: UpdateSession) -> None:
        """A client's allowed change: goes to the model, and counts for later agents unless the model refuses it."""
        session: dict[str, Any] = {**intent.patch, "type": "realtime"}
        before = self.agent
        if intent.server_tools is not None:
            self.agent = with_tools(self._whole, intent.server_tools)
        if intent.tools is not None:
            session["tools"] = offered_tools(self.agent, intent.tools, intent.listed)
        session = self._hold_back(session)
        # A voice that cannot be changed any more is the model's to refuse: the client asked for it by name.
        self._send(Update(self._out.mint(), session, intent, before=before))

    def client_tools(self, tools: Sequence[Mapping[str, Any]]) -> None:
        """A client has declared these, past us."""
        self._client_tools = tools

    def correct(self, patch: Mapping[str, Any]) -> None:
        """Tell the model this anew."""
        self._send(Update(self._out.mint(), {"type": "realtime", **patch}))

    def is_clients_tool(self, name: str) -> bool:
        """Whether a client has declared this tool past us."""
        return any(wire.text(tool, "name") == name for tool in self._client_tools)

    def confirmed(self, session: Mapping[str, Any]) -> UpdateSession | None:
        """`session.updated` came; returns the client's wish that it answers, if it answers one."""
        self._confirmed = True
        update = self._unanswered.popleft() if self._unanswered else None
        if update is not None:
            self._told = merge(self._told, update.session)
        self.effective = merge(self._told, session)
        if update is None or update.intent is None:
            return None
        self._accepted = merge(self._accepted, allowed_part(update.intent.patch, self.agent.client))
        if update.intent.tools is not None and self.agent.client.allows("tools"):
            self._client_tools = tuple(update.intent.tools)
        return update.intent

    def refused(self, error: Mapping[str, Any]) -> Update | None:
        """An `error` came; returns the update that it refused, if it was one.

        Errors do not always carry the event id (protocol 3.3); then the parameter tells, and the oldest is meant.
        """
        event_id, about = wire.text(error, "event_id"), wire.text(error, "param")
        if event_id:
            refused = [update for update in self._unanswered if update.id == event_id]
        elif about.startswith("session"):
            key = about.removeprefix("session").lstrip(".").partition(".")[0]
            refused = [update for update in self._unanswered if key in update.session] or list(self._unanswered)
        elif wire.text(error, "code") == "cannot_update_voice":
            refused = list(self._unanswered)
        else:
            return None
        if not refused:
            return None
        self._unanswered.remove(refused[0])
        before = refused[0].before
        if before is not None and before.snapshot == self.agent.snapshot:
            self.agent = before
        return refused[0]

    def send_again(self, update: Update, error: Mapping[str, Any]) -> bool:
        """Send a refused update of ours again without the model's name or the voice, if that was refused of it.

        No open session may change its model, and one that is joined (a call, by its id) may have any; none may change
        its voice once it has spoken, which it may have done while the update was on its way.
        """
        output = wire.mapping(wire.mapping(update.session, "audio"), "output")
        if update.ours and "model" in update.session and wire.text(error, "param") == "session.model":
            self._model = {}
            session = {name: value for name, value in update.session.items() if name != "model"}
        elif update.ours and "voice" in output and wire.text(error, "code") == "cannot_update_voice":
            self.voice_locked = True
            session = _voiceless(update.session)
        else:
            return False
        self._send(dataclasses.replace(update, id=self._out.mint(), session=session))
        return True

    def _send(self, update: Update, event: Mapping[str, Any] | None = None) -> None:
        if self._confirms:
            self._unanswered.append(update)
        if not self._confirms or not self._confirmed:
            self.effective = merge(self.effective, update.session)
        self._out.send({**(event or {}), "type": "session.update", "event_id": update.id, "session": update.session})

    def _compose(self) -> dict[str, Any]:
        session: dict[str, Any] = merge({"type": "realtime", **self._model}, self.agent.session)
        if self.agent.instructions is not None:
            session["instructions"] = self.agent.instructions
        session = merge(session, self._accepted)
        for update in self._unanswered:
            if update.intent is not None:
                session = merge(session, allowed_part(update.intent.patch, self.agent.client))
        session["tools"] = offered_tools(self.agent, self._wanted_tools())
        return self._keep_voice(session)

    def _hold_back(self, session: dict[str, Any], *, full: bool = False) -> dict[str, Any]:
        """With responses begun by the session alone where the user's turns are judged first (contract section 8).

        Whether the agent, or a client, wants the model to answer by itself is kept in `creates_responses`.
        """
        given = wire.mapping(wire.mapping(session, "audio"), "input")
        holds, held = self.agent.holds_input, self._held_back
        if full:
            self._held_back = holds
        if "turn_detection" not in given and not (full and (holds or held)):
            return session
        detection = given.get("turn_detection", _DEFAULT_DETECTION)
        if not isinstance(detection, Mapping):
            return session
        self.creates_responses = detection.get("create_response") is not False
        if holds:
            return merge(session, detecting({**detection, "create_response": False}))
        return merge(session, detecting(detection))

    def _keep_voice(self, session: dict[str, Any]) -> dict[str, Any]:
        """With the voice of before where audio was spoken: the model refuses the whole update otherwise."""
        output = wire.mapping(wire.mapping(session, "audio"), "output")
        if not self.voice_locked or "voice" not in output:
            return session
        old = wire.mapping(wire.mapping(self.effective, "audio"), "output").get("voice")
        if old is None:
            return _voiceless(session)
        return merge(session, {"audio": {"output": {"voice": old}}})

    def _wanted_tools(self) -> Sequence[Mapping[str, Any]]:
        for update in reversed(self._unanswered):
            if update.intent is not None and update.intent.tools is not None:
                return update.intent.tools
        return self._client_tools
