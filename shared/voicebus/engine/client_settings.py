"""A client's view of the session's settings: what it is shown, and which of its updates may pass.

What a client may not set (contract section 4): everything outside the `ClientRights` of the agent in charge, so by
default the instructions, the prompt and reasoning. Such an update is answered with `forbidden_parameter` and dropped
whole. What the rights ignore is taken away before anything is judged. Three rules let unmodified clients, which send
the whole session object, hold a conversation all the same:

- A value equal to the one that the client is shown changes nothing, so it is never refused: instructions "" (that is
  what clients are shown), a prompt or tracing of null, the agent's name as the model, the session's id.
- A `model` that names no agent has no meaning here, as in the address (contract section 4): it is the agent in charge.
  One that names another agent would change the agent and is refused.
- Tracing (where it may not be set) is the client's own view: it is shown what it asked for, and the model is not told,
  since the traces would be in the provider's records of whoever runs the server.

openai-agents, for one, sends `model: "gpt-realtime-…"`, `instructions: ""` unless its local agent has some, its own
tools and audio settings, and `tracing: "auto"` by itself: all of that applies. With instructions of its own the first
update is refused, and the conversation runs on the server agent's settings.

Values that the model would refuse are left to the model: its error has the client's `event_id`.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicebus.engine.client_errors import forbidden, invalid_type, invalid_value, missing, unknown_parameter
from voicebus.engine.client_tools import Tools
from voicebus.engine.config import AgentSpec, SessionConfig
from voicebus.engine.view import UpdateSession

_FORMAT: Final = dict.fromkeys(("type", "rate"))
_KNOWN: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("type", "model", "instructions", "output_modalities", "tools", "tool_choice")),
    **dict.fromkeys(("max_output_tokens", "truncation", "tracing", "prompt", "include", "reasoning")),
    "parallel_tool_calls": None,
    "audio": {
        "input": {
            "format": _FORMAT,
            "noise_reduction": dict.fromkeys(("type", "strength")),
            "transcription": dict.fromkeys(("model", "language", "prompt", "delay", "keywords", "languages")),
            "turn_detection": dict.fromkeys(
                (
                    "type",
                    "threshold",
                    "prefix_padding_ms",
                    "silence_duration_ms",
                    "idle_timeout_ms",
                    "create_response",
                    "interrupt_response",
                    "eagerness",
                    "model_version",
                )
            ),
        },
        "output": {"format": _FORMAT, "voice": {"id": None}, "speed": None},
    },
}
_UNCHANGED: Final = object()
# Objects that hold nothing but settings, each of which a client sets by itself (protocol 4.2).
_OF_SETTINGS: Final = frozenset({"audio", "audio.input", "audio.output"})
# Settings that a client which may not make them has for itself alone.
_OWN_VIEW: Final = frozenset({"tracing"})
# Updates of one client without their answer; as many as the session itself waits for.
_MAX_PENDING: Final = 64


@dataclass(frozen=True, slots=True)
class _Pending:
    """What an update does to the view once the model has confirmed it; None leaves it."""

    event_id: str | None
    instructions: str | None
    hide_transcription: bool | None
    own_view: Mapping[str, Any]


class ClientSettings:
    """The settings as one client sees and changes them."""

    def __init__(self, config: SessionConfig, tools: Tools) -> None:
        self.agent: str = config.agent.name
        self.transcription_hidden: bool = False
        self._rights = config.agent.client
        self._tools = tools
        self._other_agents = {handoff.agent for handoff in config.agent.handoffs} - {self.agent}
        self._instructions = ""
        self._own_view: dict[str, Any] = {}
        self._shown: Mapping[str, Any] = {"model": self.agent, "instructions": "", "tools": []}
        self._pending: deque[_Pending] = deque(maxlen=_MAX_PENDING)

    def agent_changed(self, agent: AgentSpec) -> None:
        self._other_agents = (self._other_agents | {self.agent}) - {agent.name}
        self.agent = agent.name
        self._rights = agent.client

    @property
    def own_tools(self) -> list[Any]:
        """The client's own tools in the session."""
        return self._tools.without_servers(self._shown["tools"])

    def heeded(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """A client's settings without those that its policy ignores."""
        return self._rights.heeded(settings)

    def may_set(self, path: str) -> bool:
        """Whether a client may set this dotted path, or one of which it is a part."""
        return self._rights.allows(path)

    def require(self, value: Any, path: str, param: str) -> None:
        """Raises `ClientEventError`, naming `param`, where not all of `value` may be set at `path`."""
        if not self.may_set(path):
            if not isinstance(value, Mapping) or not self._may_set_part(path):
                raise forbidden(param)
            for key, part in value.items():
                self.require(part, f"{path}.{key}", f"{param}.{key}")

    def show(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """The client's view of the session as the model confirmed it."""
        shown = {
            **session,
            "model": self.agent,
            "instructions": self._shown_instructions(session),
            "tools": self._tools.visible(session.get("tools")),
        }
        for private in ("prompt", "tracing"):
            if (shown.get(private) is not None or private in self._own_view) and not self.may_set(private):
                shown[private] = self._own_view.get(private)
        choice = shown.get("tool_choice")
        if isinstance(choice, Mapping) and self._tools.is_hidden_choice(choice):
            shown["tool_choice"] = "auto"
        if self.transcription_hidden:
            shown = _with_transcription_off(shown)
        self._shown = shown
        return shown

    def update(self, session: Mapping[str, Any], event_id: str | None) -> UpdateSession:
        """A client's `session.update`, checked whole. Raises `ClientEventError`."""
        if "type" not in session:
            raise missing("session.type")
        session = self._rights.heeded(session)
        changes = {key: value for key, value in session.items() if key not in self._shown or value != self._shown[key]}
        _check_keys(changes, _KNOWN, "session")
        if session["type"] != "realtime":
            raise invalid_value("session.type", "Invalid value. The type of this session is 'realtime'.")
        patch: dict[str, Any] = {"type": "realtime"}
        own_view: dict[str, Any] = {}
        for key, value in session.items():
            if key not in _KNOWN:
                continue  # as the client was shown it: its id, when it expires, what this version knows nothing of
            if key == "model":
                self._check_model(value)
            elif key in _OWN_VIEW and (not self.may_set(key) or value == self._shown.get(key)):
                own_view[key] = value  # which the model takes once, also where it changes nothing
            elif key != "type" and (kept := self._settable(value, self._shown.get(key), key)) is not _UNCHANGED:
                patch[key] = kept
        tools = self._tools.check(patch.pop("tools"), "session.tools") if "tools" in patch else None
        self._tools.check_choice(patch.get("tool_choice"), "session.tool_choice")
        patch, hide = _without_transcription_off(patch)
        # Nothing may be kept before the last check has passed.
        chosen, listed = None, tools
        if tools is not None:
            chosen = self._tools.select(tools)
            tools = self._tools.without_servers(tools)
            self._tools.declare(tools, for_session=True)
        instructions = patch.get("instructions")
        text = instructions if isinstance(instructions, str) else None
        self._pending.append(_Pending(event_id, text, hide, own_view))
        return UpdateSession(patch, tools, event_id, chosen, listed)

    def confirmed(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """The model applied the oldest update: what the client is shown then."""
        if self._pending:
            applied = self._pending.popleft()
            if applied.instructions is not None:
                self._instructions = applied.instructions
            if applied.hide_transcription is not None:
                self.transcription_hidden = applied.hide_transcription
            self._own_view |= applied.own_view
        return self.show(session)

    def refused(self, error: Mapping[str, Any]) -> None:
        """The model answered something with `error`: if it was an update, that one does nothing.

        Errors do not always carry the event id (protocol section 3.3); then the parameter tells.
        """
        event_id, param = error.get("event_id"), error.get("param")
        named = [pending for pending in self._pending if event_id is not None and pending.event_id == event_id]
        if named:
            self._pending.remove(named[0])
        elif self._pending and event_id is None:
            about_session = isinstance(param, str) and param.startswith("session")
            if about_session or error.get("code") == "cannot_update_voice":
                self._pending.popleft()

    def _shown_instructions(self, session: Mapping[str, Any]) -> Any:
        if "instructions" in self._rights.may_see:
            return session.get("instructions") or ""
        return self._instructions if self.may_set("instructions") else ""

    def _may_set_part(self, path: str) -> bool:
        return any(allowed.startswith(f"{path}.") for allowed in self._rights.may_set)

    def _check_model(self, model: object) -> None:
        if not isinstance(model, str):
            raise invalid_type("session.model", "a string", model)
        if model in self._other_agents:
            raise forbidden("session.model")

    def _settable(self, value: Any, shown: Any, path: str) -> Any:
        """The part of `value` that may be set at `path`, `_UNCHANGED` if it is none and changes nothing."""
        if self.may_set(path):
            return value
        if value == shown:
            return _UNCHANGED
        if isinstance(value, Mapping) and (path in _OF_SETTINGS or self._may_set_part(path)):
            inner = shown if isinstance(shown, Mapping) else {}
            parts = {key: self._settable(part, inner.get(key), f"{path}.{key}") for key, part in value.items()}
            return {key: part for key, part in parts.items() if part is not _UNCHANGED} or _UNCHANGED
        raise forbidden(f"session.{path}")


def _check_keys(value: object, known: Any, path: str) -> None:
    if isinstance(value, Mapping) and known is not None:
        for key, part in value.items():
            if key not in known:
                raise unknown_parameter(path, key)
            _check_keys(part, known[key], f"{path}.{key}")


def _without_transcription_off(patch: dict[str, Any]) -> tuple[dict[str, Any], bool | None]:
    """The patch without `transcription: null`, which only the client's view obeys: the archive keeps its text.

    Also whether the client wants transcription hidden; None where it says nothing about it.
    """
    audio = patch.get("audio")
    given = audio.get("input") if isinstance(audio, Mapping) else None
    if not isinstance(audio, Mapping) or not isinstance(given, Mapping) or "transcription" not in given:
        return patch, None
    if given["transcription"] is not None:
        return patch, False
    kept = {key: value for key, value in given.items() if key != "transcription"}
    return {**patch, "audio": {**audio, "input": kept}}, True


def _with_transcription_off(session: dict[str, Any]) -> dict[str, Any]:
    audio = session.get("audio")
    if not isinstance(audio, Mapping) or not isinstance(audio.get("input"), Mapping):
        return session
    return {**session, "audio": {**audio, "input": {**audio["input"], "transcription": None}}}
