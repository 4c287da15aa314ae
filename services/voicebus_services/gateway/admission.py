"""Whether there is room for one more session: slots of this gateway, and what a tenant and a key hold everywhere.

A slot is taken before anything is waited for, so that exactly as many are given as there are. The counts of tenants and
keys are leases: those of a gateway that died stop counting `LEASE_MS` after its last renewal.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ulid_transform import ulid_now

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import script
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.allowance import ALLOW, short
from voicebus_services.access.principal import Principal
from voicebus_services.http import ProblemError

log: Final = get_logger(__name__)

LEASE_MS: Final = 15_000
RENEW_S: Final = 5.0
RETRY_AFTER_S: Final = 5

_ELSEWHERE: Final = frozenset({"full", "draining"})

_CHUNK: Final = 500

# KEYS: sets of sessions; ARGV: lease ms, sessions.
_RENEW: Final = script(
    "renew_sessions",
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for place = 1, #KEYS do
  for number = 2, #ARGV do
    redis.call('ZADD', KEYS[place], now + ARGV[1], ARGV[number])
  end
  redis.call('PEXPIRE', KEYS[place], ARGV[1] * 2)
end
return 1
""",
)

_WHOSE: Final = ("tenant", "credential", "client secret")


@dataclass(frozen=True, slots=True)
class Rules:
    """The installation's limits; 0 is none. A key's own come before the last two."""

    slots: int
    tenant_sessions: int = 0
    key_sessions: int = 0
    connections_per_minute: int = 0


class Ticket:
    """Room for one session. Give it back when the session is over, or never begins; once is enough.

    `counted` in Redis; `used` by a session, which gives it back.
    """

    def __init__(self, give_back: Callable[["Ticket"], None], keys: tuple[str, ...]) -> None:
        self.id = ulid_now()
        self.keys = keys
        self.counted = False
        self.used = False
        self._give_back: Callable[[Ticket], None] | None = give_back

    @property
    def released(self) -> bool:
        return self._give_back is None

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self)


class Admission:
    """Gives tickets. Run `keep` as a task, so that what they hold goes on counting.

    `on_change` is told whether there is room, whenever that changes.
    """

    def __init__(
        self, bus: RedisConnection, keys: Keys, rules: Rules, *, on_change: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._rules = rules
        self._on_change = on_change
        self._tickets: dict[str, Ticket] = {}
        self._closed = False
        metrics.SESSION_SLOTS.set(rules.slots)

    @property
    def free(self) -> int:
        return 0 if self._closed else self._rules.slots - len(self._tickets)

    def close(self) -> None:
        """Admit nobody any more."""
        self._closed = True
        self._on_change(False)

    async def admit(self, principal: Principal) -> Ticket:
        """Take a slot, and count the session for its tenant and key.

        Raises:
            ProblemError: 503 `full`, `draining` or `session_unavailable`, 429 `too_many_sessions` or
                `too_many_connections`, each with `Retry-After`.
        """
        self._require_open()
        if self.free <= 0:
            raise _refused(503, "full", "every session slot of this gateway is taken")
        counted = self._counted(principal)
        ticket = Ticket(self._returned, tuple(name for name, _ in counted))
        self._tickets[ticket.id] = ticket
        if self.free == 0:
            self._on_change(False)
        try:
            await self._count(ticket, principal, [limit for _, limit in counted])
            self._require_open()  # a drain that began meanwhile does not wait for a session that begins now
        except BaseException:  # also where it is cancelled: the slot is free again
            ticket.release()
            raise
        return ticket

    def room(self) -> Ticket:
        """A slot for a session of another gateway's, which is counted already (`count_on`).

        Raises:
            ProblemError: 503 `full` or `draining`, with `Retry-After`.
        """
        self._require_open()
        if self.free <= 0:
            raise _refused(503, "full", "every session slot of this gateway is taken")
        ticket = Ticket(self._returned, ())
        self._tickets[ticket.id] = ticket
        if self.free == 0:
            self._on_change(False)
        return ticket

    def count_on(self, ticket: Ticket, former: str, principal: Principal) -> None:
        """Have the session go on counting for its tenant and key, under the ticket that it had before."""
        del self._tickets[ticket.id]
        ticket.id, ticket.keys, ticket.counted = former, tuple(name for name, _ in self._counted(principal)), True
        self._tickets[ticket.id] = ticket

    async def keep(self) -> None:
        """Renew what is counted until cancelled."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.renew()
            except BusError as error:
                log.info("the counts of sessions are renewed later", error=str(error))

    async def renew(self) -> None:
        """Have every session that is held here count for another `LEASE_MS`.

        Raises:
            BusError: Redis cannot be reached.
        """
        together: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for ticket in self._tickets.values():
            if ticket.counted:
                together[ticket.keys].append(ticket.id)
        for keys, sessions in together.items():
            for start in range(0, len(sessions), _CHUNK):
                # Those that ended meanwhile are not brought back.
                held = [session for session in sessions[start : start + _CHUNK] if session in self._tickets]
                if held:
                    await self._bus.script(_RENEW, list(keys), LEASE_MS, *held)

    async def _count(self, ticket: Ticket, principal: Principal, limits: list[int]) -> None:
        rates = self._rates(principal)
        try:
            full, wait_ms = await self._bus.script(
                ALLOW, [*rates, *ticket.keys], ticket.id, LEASE_MS, len(rates), *rates.values(), *limits
            )
        except BusError as error:
            log.warning("a session cannot be counted", error=str(error))
            raise _refused(503, "session_unavailable", "no session can begin now; try again shortly") from error
        if wait_ms:
            raise _refused(
                429,
                "too_many_connections",
                "this credential opens connections faster than it may; try again later",
                retry_after_s=-(-int(wait_ms) // 1000),
            )
        if full:
            whose = _WHOSE[int(full) - 1]
            raise _refused(429, "too_many_sessions", f"this {whose} holds as many sessions at once as it may")
        ticket.counted = True

    def _returned(self, ticket: Ticket) -> None:
        if self._tickets.get(ticket.id) is not ticket:
            return  # its session has come back, and counts under the ticket that it has there
        was_full = self.free <= 0
        del self._tickets[ticket.id]
        if was_full and not self._closed:
            self._on_change(True)
        # Also where it is not known whether it was counted. Nobody waits: what is lost here ends with its lease.
        for key in ticket.keys:
            self._bus.submit("ZREM", key, ticket.id)

    def _require_open(self) -> None:
        if self._closed:
            raise _refused(503, "draining", "this gateway is shutting down and takes no more sessions")

    def _rates(self, principal: Principal) -> dict[str, int]:
        """The buckets that a connection of this principal takes from, each with its connections per minute."""
        secret, own = principal.secret_id, principal.limits.connections_per_minute
        key_rate = own if secret is None else principal.key_connections
        rates = {f"connections:{short(principal.key_id)}": key_rate or self._rules.connections_per_minute}
        if secret is not None:
            rates[f"connections:secret:{short(secret)}"] = own or 0
        return {self._keys.access(principal.tenant, name): rate for name, rate in rates.items()}

    def _counted(self, principal: Principal) -> list[tuple[str, int]]:
        """Where a session of this principal counts, and up to which limit: as in `_WHOSE`."""
        secret = principal.secret_id
        key_limit = principal.limits.sessions if secret is None else principal.key_sessions
        names = [("sessions", self._rules.tenant_sessions)]
        names += [(f"sessions:{short(principal.key_id)}", key_limit or self._rules.key_sessions)]
        if secret is not None:
            names += [(f"sessions:secret:{short(secret)}", principal.limits.sessions or 0)]
        return [(self._keys.access(principal.tenant, name), limit) for name, limit in names]


def _refused(status: int, code: str, detail: str, *, retry_after_s: int = RETRY_AFTER_S) -> ProblemError:
    headers: dict[str, Any] = {"Retry-After": str(max(1, retry_after_s))}
    if code in _ELSEWHERE:
        headers["Connection"] = "close"  # by another connection another gateway may be reached
    return ProblemError(status, code, detail, headers=headers)
