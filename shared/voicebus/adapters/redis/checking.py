"""Guardrail checks from a gateway to the workers (contract section 2).

An eager guardrail asks at each delta of text, hundreds of times a second over all sessions. So a check is made when it
leaves, as JSON at once; until then a newer one of the same answer takes its place in the queue, with all of the text.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
from ulid_transform import ulid_now

from voicebus.adapters.redis.guardrail_circuit import GuardrailCircuit
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.envelope import Sealed
from voicebus.contracts.guardrails import GUARDRAIL_CHECK
from voicebus.contracts.streams import GUARDRAILS_QUEUE, Keys
from voicebus.engine.outputs import DispatchCheck
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry import metrics

# How long a worker's answer about nothing is of use.
_PROBE_TIMEOUT_MS: Final = 1000
_SESSIONS_KNOWN: Final = 4096
# Of older ones a session waits for no answer any more.
_STANDS_FOR: Final = 256

_encode: Final = msgspec.json.Encoder().encode
_Answer = tuple[str, str, str, str]


class RedisGuardrailDispatch:
    """Implements `voicebus.ports.GuardrailDispatch`. `circuit` knows whether anybody answers."""

    def __init__(
        self, outbox: Outbox, clock: Clock, keys: Keys, *, reply_to: str, circuit: GuardrailCircuit | None = None
    ) -> None:
        self._outbox = outbox
        self._clock = clock
        self._dead = keys.dead(GUARDRAILS_QUEUE)
        self._reply_to = reply_to
        self._circuit = circuit
        self._stream = lru_cache(_SESSIONS_KNOWN)(lambda session: keys.guardrails(keys.guardrail_shard(session)))
        # Those that the outbox still has, by the answer that they are about.
        self._waiting: WeakValueDictionary[_Answer, _Waiting] = WeakValueDictionary()

    def check(self, session: SessionRef, check: DispatchCheck, *, timeout_ms: int) -> str | None:
        if self._circuit is not None and not self._circuit.asks():
            return self._circuit.why
        self._send(session, check, timeout_ms)
        return None

    def probe(self) -> None:
        """Ask any worker for an answer, about nothing."""
        nothing = DispatchCheck("probe", "", "", "", (), "", final=True)
        self._send(SessionRef("probe", 1), nothing, _PROBE_TIMEOUT_MS)

    def _send(self, session: SessionRef, check: DispatchCheck, timeout_ms: int) -> None:
        now = self._clock.at_ms()
        answer = (session.id, check.stage, check.response_id, check.item_id)
        waiting = self._waiting.get(answer)
        if waiting is not None and waiting.gives_way(check):
            waiting.stand_for(session, check, now, now + timeout_ms)
            metrics.GUARDRAIL_SUPERSEDED.inc()
            return
        self._waiting[answer] = waiting = _Waiting(session, check, self._reply_to, now, now + timeout_ms)
        self._outbox.send(self._stream(session.id), waiting, dead=self._dead)


class _Waiting:
    """A check on its way, not made yet. Implements `Unsealed`. `at` and `deadline` are ms of the server's clock."""

    __slots__ = ("__weakref__", "_at", "_check", "_gone", "_reply_to", "_session", "_stands_for", "deadline")

    type: Final = GUARDRAIL_CHECK

    def __init__(self, session: SessionRef, check: DispatchCheck, reply_to: str, at: int, deadline: int) -> None:
        self._session = session
        self._check = check
        self._reply_to = reply_to
        self._at = at
        self.deadline: int | None = deadline
        self._stands_for: list[str] = []
        self._gone = False

    @property
    def session(self) -> str:
        return self._session.id

    def gives_way(self, newer: DispatchCheck) -> bool:
        """Whether a verdict on `newer` answers this one, too, and it has not been sent."""
        mine = self._check
        covered = len(newer.text) >= len(mine.text) and set(newer.guardrails) >= set(mine.guardrails)
        return not self._gone and covered and (newer.final or not mine.final)

    def stand_for(self, session: SessionRef, newer: DispatchCheck, at: int, deadline: int) -> None:
        """Become `newer`, in the place that this has in the queue."""
        self._stands_for.append(self._check.check_id)
        del self._stands_for[:-_STANDS_FOR]
        self._session, self._check, self._at, self.deadline = session, newer, at, deadline

    def sealed(self) -> Sealed:
        self._gone = True
        check, session = self._check, self._session
        data: Mapping[str, Any] = {
            "check_id": check.check_id,
            "response_id": check.response_id,
            "item_id": check.item_id,
            "agent": check.agent,
            "guardrails": check.guardrails,
            "text": check.text,
            "final": check.final,
            "stage": check.stage,
            "reply_to": self._reply_to,
            "context": check.context or {},
            "stands_for": self._stands_for,
            "tenant": check.tenant,
            "early": True,
        }
        return Sealed(
            ulid_now(), GUARDRAIL_CHECK, session.id, session.epoch, self._at, _encode(data).decode(), self.deadline,
            session.traceparent,
        )  # fmt: skip
