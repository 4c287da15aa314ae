"""Who gets in: each WebSocket upgrade is routed, authenticated and admitted here, at once and without waiting."""

from collections.abc import Mapping
from typing import Final

from voicebus.adapters.sockets import POLICY_VIOLATION
from voicebus.adapters.sockets.uvicorn_upgrade import Accept, Refuse, Upgrade
from voicebus.agents.targets import Targets
from voicebus.ports import Clock
from voicebus.telemetry import metrics
from voicebus_services.gateway.faces import native, openai
from voicebus_services.gateway.faces.base import ClosingListener
from voicebus_services.gateway.faces.openai_address import CLOSE_CODE, unserved
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.http import ApiKeys, ProblemError

REALTIME: Final = "/v1/realtime"
CONNECT: Final = "/v1/sessions/connect"
RETRY_AFTER_S: Final = 5

_SUBPROTOCOL: Final = "realtime"
_KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."

# The protocol's close codes for its own face (protocol 1.4), ours for the native one (contract section 3).
_BAD_CREDENTIAL: Final = 3000
_UNKNOWN_SESSION: Final = 4404
_FULL: Final = 4429


class Doorkeeper:
    """Decides on upgrades: `decide` is the acceptor of `upgrade_hook`."""

    def __init__(self, sessions: Sessions, targets: Targets, keys: ApiKeys, clock: Clock) -> None:
        self._sessions = sessions
        self._targets = targets
        self._keys = keys
        self._clock = clock

    def decide(self, upgrade: Upgrade) -> Accept | Refuse:
        if upgrade.path == REALTIME:
            return self._realtime(upgrade)
        if upgrade.path == CONNECT:
            return self._connect(upgrade)
        return _problem(404, "not_found", f"there is no WebSocket at {upgrade.path}")

    # --- the OpenAI face ----------------------------------------------------------------------------

    def _realtime(self, upgrade: Upgrade) -> Accept | Refuse:
        subprotocol = _selected(upgrade)
        try:
            tenant = self._authenticate(upgrade)
        except ProblemError as problem:
            _rejected("credentials")
            code = "invalid_api_key" if _key(upgrade) else None
            return Accept(_refused(code, str(problem), _BAD_CREDENTIAL), subprotocol)
        if (wrong := unserved(upgrade.query, upgrade.headers)) is not None:
            _rejected(wrong.code)
            return Accept(_refused(wrong.code, wrong.message, CLOSE_CODE, wrong.param), subprotocol)
        if "call_id" in upgrade.query:
            _rejected("unknown_call")
            return _problem(404, "call_id_not_found", "there is no call of this id here to join")
        agent = upgrade.query.get("agent")
        if agent is not None and agent not in self._targets.agents:
            _rejected("unknown_agent")
            message = f"There is no agent '{agent[:64]}' here."
            return Accept(_refused("invalid_model", message, CLOSE_CODE, "agent"), subprotocol)
        if agent is None:
            model = upgrade.query.get("model", "")
            agent = model if model in self._targets.agents else self._targets.default_agent
        if (refusal := self._sessions.refusal) is not None:
            _rejected(refusal[0])
            return _problem(503, *refusal, {"Retry-After": str(RETRY_AFTER_S)})
        face = openai.OpenAIConnection(self._sessions, agent=agent, traceparent=upgrade.headers.get("traceparent"))
        face.tenant = tenant
        return Accept(face, subprotocol)

    # --- the native face ----------------------------------------------------------------------------

    def _connect(self, upgrade: Upgrade) -> Accept | Refuse:
        query = upgrade.query
        agent = query.get("agent") or self._targets.default_agent
        try:
            tenant = self._authenticate(upgrade)
        except ProblemError as problem:
            return self._turned_away(upgrade, "credentials", str(problem), POLICY_VIOLATION)
        if "session" in query:
            return self._turned_away(
                upgrade, "unknown_session", "this gateway holds no such session to resume", _UNKNOWN_SESSION
            )
        if agent not in self._targets.agents:
            return self._turned_away(
                upgrade, "unknown_agent", f"there is no agent {agent[:64]!r} here", POLICY_VIOLATION
            )
        if (refusal := self._sessions.refusal) is not None:
            return self._turned_away(upgrade, *refusal, _FULL)
        seq = query.get("seq", "0")
        face = native.NativeConnection(
            self._sessions,
            self._clock,
            agent=agent,
            traceparent=upgrade.headers.get("traceparent"),
            after_seq=int(seq) if seq.isascii() and seq.isdigit() and len(seq) < 16 else 0,
            json_audio=query.get("audio") == "json",
            raw=query.get("raw") == "1",
        )
        face.tenant = tenant
        return Accept(face, _selected(upgrade))

    def _turned_away(self, upgrade: Upgrade, code: str, message: str, close_code: int) -> Accept:
        _rejected(code)
        frame = native.error_frame(self._clock, code=code, message=message)
        return Accept(ClosingListener(frame, close_code, code), _selected(upgrade))

    def _authenticate(self, upgrade: Upgrade) -> str:
        """Whose upgrade it is. Browsers cannot set headers, so a key may also come as a subprotocol (protocol 1.3)."""
        headers = dict(upgrade.headers)
        key = _key(upgrade)
        if key and "authorization" not in headers:
            headers["authorization"] = f"Bearer {key}"
        return self._keys.authenticate(headers, upgrade.peer)


def _key(upgrade: Upgrade) -> str | None:
    """The credential that was presented, of whatever kind."""
    for name in upgrade.subprotocols:
        if name.startswith(_KEY_SUBPROTOCOL):
            return name.removeprefix(_KEY_SUBPROTOCOL)
    return upgrade.headers.get("authorization", "").partition(" ")[2].strip() or None


def _selected(upgrade: Upgrade) -> str | None:
    return _SUBPROTOCOL if _SUBPROTOCOL in upgrade.subprotocols else None


def _refused(code: str | None, message: str, close_code: int, param: str | None = None) -> ClosingListener:
    reason = "invalid_request_error" + (f".{code}" if code else "")
    return ClosingListener(openai.error_frame(code=code, message=message, param=param), close_code, reason)


def _rejected(reason: str) -> None:
    metrics.ADMISSION_REJECTED.labels(reason=reason).inc()


def _problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Refuse:
    response = ProblemError(status, code, detail).response()
    kind = {"Content-Type": "application/problem+json"}
    return Refuse(status, bytes(response.body), {**kind, **(headers or {})})
