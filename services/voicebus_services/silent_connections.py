"""The connections of a public port that have sent no whole request, or do not take their answer: bounded in number, as
well as in time.

Each takes memory, some 50 KiB with TLS, before it has shown any credential.
"""

import time
from typing import Final, Protocol

from voicebus.telemetry.logging import get_logger
from voicebus.telemetry.metrics import LIMITS_REACHED
from voicebus_services.networks import network_of

log: Final = get_logger(__name__)

MOST: Final = 1000
"""As many may be silent at once, where no setting says otherwise."""

_TELL_EVERY_S: Final = 60.0


class Connection(Protocol):
    """One that may be silent. `address` is its peer's."""

    @property
    def address(self) -> str: ...

    def drop(self) -> None:
        """End it at once."""


class SilentConnections:
    """Who has connected and not asked yet, or has had an answer and not asked again, or leaves it untaken.

    Beyond `most` one is dropped for each that comes: of the address that has most of them (of IPv6, the network of 64
    bits, all of which one machine has) the one that has been silent for longest. So a flood takes the places of its
    own; where a proxy hides addresses, whoever asks without delay has the time in which `most` others come. A proxy's
    idle connections go in the order in which it is least likely to ask on them.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        # Of each address its connections, the longest silent ones first; and the addresses by how many they have.
        self._silent: dict[str, dict[Connection, None]] = {}
        self._having: list[dict[str, None]] = [{}]
        self._count = 0
        self._dropped = 0
        self._told_at: float | None = None

    def fell_silent(self, connection: Connection) -> None:
        """Count `connection`, which keeps its place if it is silent already; it may be the one that is dropped."""
        of_address = self._silent.setdefault(network_of(connection.address), {})
        if connection in of_address:
            return
        of_address[connection] = None
        self._rank(connection.address, len(of_address) - 1, len(of_address))
        self._count += 1
        if self._count > self._most:
            self.drop_one()

    def spoke(self, connection: Connection) -> None:
        """`connection` has asked, or is gone."""
        network = network_of(connection.address)
        of_address = self._silent.get(network, {})
        if connection in of_address:
            del of_address[connection]
            self._rank(connection.address, len(of_address) + 1, len(of_address))
            self._count -= 1
            if not of_address:
                del self._silent[network]

    def drop_one(self) -> bool:
        """Make room; False where nobody is silent."""
        if not self._silent:
            return False
        address = next(iter(self._having[-1]))
        oldest = next(iter(self._silent[address]))
        self.spoke(oldest)
        oldest.drop()
        LIMITS_REACHED.labels("silent_connections").inc()
        self._dropped += 1
        self._tell(address)
        return True

    def _rank(self, address: str, before: int, now: int) -> None:
        """An address has so many connections now. Kept up with each, as a flood may come from many addresses."""
        network = network_of(address)
        self._having[before].pop(network, None)
        if now == len(self._having):
            self._having.append({})
        if now:
            self._having[now][network] = None
        while len(self._having) > 1 and not self._having[-1]:
            self._having.pop()

    def _tell(self, address: str) -> None:
        """One line for a flood, or each minute of it."""
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < _TELL_EVERY_S:
            return
        log.warning(
            "too many connections without a request, the oldest are dropped: see VOICEBUS_MAX_SILENT_CONNECTIONS, "
            "and how many open files the process may have",
            kept=self._count,
            mostly_from=address,
            dropped=self._dropped,
        )
        self._told_at, self._dropped = now, 0
