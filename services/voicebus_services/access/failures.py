"""How often credentials may fail: whoever guesses, or floods, is turned away before anything is looked up.

Each gateway counts for itself, by where a request comes from (of IPv6 the network of 64 bits) and by the beginning of
what it shows: so that one client with a wrong key does not keep the others out that come from its address.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

from voicebus.telemetry.logging import get_logger
from voicebus_services.bucket import Bucket
from voicebus_services.networks import network_of

log: Final = get_logger(__name__)

MAX_KNOWN: Final = 20_000
"""Addresses and beginnings of credentials that are kept; the one that has failed least lately is forgotten."""

_PREFIX_CHARS: Final = 8
# Of an address's failures so many may be with one beginning.
_SHARE: Final = 10
_TELL_EVERY_S: Final = 60.0


class Failures:
    """`per_minute` failures of one address are allowed, as many at once, and a tenth of it with one key's beginning.

    0 is no limit.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[bytes, Bucket] = OrderedDict()
        self._told_at: float | None = None

    def wait(self, peer: str | None, credential: str) -> float:
        """Seconds until this address may try such a credential again; 0 where it may now."""
        return max((self._bucket(name, share).wait(1.0) for name, share in self._counts(peer, credential)), default=0.0)

    def failed(self, peer: str | None, credential: str) -> None:
        """This credential was refused."""
        for name, share in self._counts(peer, credential):
            bucket = self._bucket(name, share)
            bucket.spend(1.0)
            self._buckets[name] = bucket
            self._buckets.move_to_end(name)
        while len(self._buckets) > MAX_KNOWN:
            self._buckets.popitem(last=False)

    def turned_away(self, peer: str | None) -> None:
        """Tell of it: in one line, or one each minute while it goes on, as a flood of them is one of lines, too."""
        now = self._clock()
        if self._told_at is not None and now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        log.warning(
            "too many wrong credentials from one address, further ones are not looked at for a while:"
            " see VOICEBUS_MAX_FAILED_CREDENTIALS_PER_MINUTE",
            address=peer,
        )

    def _counts(self, peer: str | None, credential: str) -> list[tuple[bytes, float]]:
        if not self._per_minute:
            return []
        address, beginning = (
            network_of(str(peer)).encode(),
            credential[:_PREFIX_CHARS].encode("utf-8", "surrogateescape"),
        )
        # Digests, so that nothing of a credential stays in memory.
        return [
            (hashlib.sha256(address).digest(), self._per_minute),
            (hashlib.sha256(address + b"\0" + beginning).digest(), max(1.0, self._per_minute / _SHARE)),
        ]

    def _bucket(self, name: bytes, per_minute: float) -> Bucket:
        return self._buckets.get(name) or Bucket(per_minute / 60, per_minute, clock=self._clock)
