"""Calls: sessions that live by themselves, as WebRTC and SIP calls do, and are watched through sidebands.

No media flows. A call is pending (SIP, until accepted), active, then ended; what a caller would say can be appended
through a sideband, and as on a real call no `response.output_audio.delta` reaches it.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from voicebus.errors import VoicebusError
from voicebus_services.model_simulator.hub import Hub
from voicebus_services.model_simulator.protocol.refusal import RefusedError
from voicebus_services.model_simulator.protocol.session_config import check_update, default_config

JsonObject = dict[str, Any]

_CALLS_KEPT = 10_000


class CallState(Enum):
    PENDING = "pending"
    ACTIVE = "active"
    ENDED = "ended"


class CallError(VoicebusError):
    """The call is unknown (404) or in a state that does not allow this (409)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(slots=True)
class Call:
    """One call. `ended` is set when its session shall end, by whatever side."""

    id: str
    state: CallState
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """A webhook as the service would post it."""

    call_id: str
    body: bytes
    headers: dict[str, str]


def sign_webhook(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a Standard Webhook; `secret` with or without its prefix `whsec_`."""
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    message = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


class Calls:
    """The calls of one simulator; `running()` must surround their use."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Calls"]:
        """Calls may be made while the block runs; then all of them are hung up."""
        # Not a task group: that would wrap what the block raises, and a call that fails is no reason to end the others.
        self._open = True
        try:
            yield self
        finally:
            self._open = False
            for call in self._calls.values():
                call.ended.set()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def incoming(
        self, webhook_secret: str, sip_headers: Sequence[tuple[str, str]] = (("From", "sip:+15550100@example.com"),)
    ) -> SignedWebhook:
        """A SIP call that rings: pending until accepted or rejected. Returns the webhook that announces it."""
        call = self._add(CallState.PENDING)
        event = {
            "object": "event",
            "id": f"evt_{secrets.token_hex(12)}",
            "type": "realtime.call.incoming",
            "created_at": int(time.time()),
            "data": {
                "call_id": call.id,
                "sip_headers": [{"name": name, "value": value} for name, value in sip_headers],
            },
        }
        body, webhook_id, now = json.dumps(event).encode(), f"wh_{secrets.token_hex(12)}", int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign_webhook(webhook_secret, webhook_id, now, body),
        }
        return SignedWebhook(call.id, body, headers)

    async def create(self, config: JsonObject) -> Call:
        """A WebRTC call, active at once.

        Raises:
            RefusedError: the session configuration is not one.
        """
        checked, model = _checked(config)
        call = self._add(CallState.ACTIVE)
        await self._start(call, checked, model)
        return call

    async def accept(self, call_id: str, config: JsonObject) -> None:
        """Raises: CallError; RefusedError: the session configuration is not one (the call goes on ringing)."""
        call = self._find(call_id, CallState.PENDING)
        checked, model = _checked(config)
        call.state = CallState.ACTIVE
        await self._start(call, checked, model)

    def reject(self, call_id: str, status_code: int) -> None:
        """Raises: CallError."""
        call = self._find(call_id, CallState.PENDING)
        call.state, call.outcome = CallState.ENDED, {"rejected": status_code}

    def refer(self, call_id: str, target_uri: str) -> None:
        """Hand the caller on; this leg, and with it the session, ends. Raises: CallError."""
        call = self._find(call_id, CallState.ACTIVE)
        call.outcome = {"referred": target_uri}
        self._end(call)

    def hangup(self, call_id: str) -> None:
        """Raises: CallError."""
        self._end(self._find(call_id, CallState.ACTIVE))

    def state(self, call_id: str) -> CallState | None:
        call = self._calls.get(call_id)
        return None if call is None else call.state

    def outcome(self, call_id: str) -> JsonObject:
        """How it ended: `{"rejected": 603}`, `{"referred": "tel:…"}`, or {}."""
        return self._calls[call_id].outcome

    def _add(self, state: CallState) -> Call:
        call = Call(f"rtc_{secrets.token_hex(12)}", state)
        self._calls[call.id] = call
        if len(self._calls) > _CALLS_KEPT:
            self._end(self._calls.popitem(last=False)[1])
        return call

    def _find(self, call_id: str, wanted: CallState) -> Call:
        call = self._calls.get(call_id)
        if call is None or call.state is CallState.ENDED:
            raise CallError(404, "call_id_not_found", f"No call found with id '{call_id[:100]}'.")
        if call.state is not wanted:
            raise CallError(
                409, "invalid_call_state", f"The call is {call.state.value}; this needs one that is {wanted.value}."
            )
        return call

    def _end(self, call: Call) -> None:
        call.state = CallState.ENDED
        call.ended.set()

    async def _start(self, call: Call, config: JsonObject, model: str) -> None:
        if not self._open:
            raise CallError(503, "server_shutting_down", "The simulator is shutting down.")
        up = asyncio.Event()
        task = asyncio.create_task(self._hold(call, config, model, up), name=f"call {call.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await up.wait()

    async def _hold(self, call: Call, config: JsonObject, model: str, up: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                with self._hub.session(group, "realtime", model, config, call_id=call.id, on_close=call.ended.set):
                    up.set()
                    await call.ended.wait()
        finally:
            call.state = CallState.ENDED
            up.set()


def _checked(config: JsonObject) -> tuple[JsonObject, str]:
    model = config.get("model", "gpt-realtime")
    if not isinstance(model, str):
        raise RefusedError(
            "Invalid type for 'session.model': expected a string.", code="invalid_type", param="session.model"
        )
    return check_update(config, default_config("realtime", "", model, 0)), model
