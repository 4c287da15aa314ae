"""Whether this process can say of others that they are dead. It hears of them through Redis alone: where a server took
nothing that is written for a while, those whose heartbeats it keeps were not heard of, and may live all the same.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

# A write that has been under way for longer may have met a server that stands still, or takes nothing; by then nobody
# else's last heartbeat is too old. One that took longer than the second of these did.
_WAITING_S: Final = 0.25
_SLOW_S: Final = 0.5

# After that, and after the first write, all that live have been heard of: as long as a heartbeat counts.
_SETTLED_S: Final = 2.5


class Contact:
    """With the servers of Redis, by their names (`RedisConnection.server_of`). May be asked from another thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Since when each takes at once what is written, and when the write was begun that is under way.
        self._since: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    def is_unbroken(self, server: str) -> bool:
        """Whether it has taken each write at once for a while; of one that is not written to, whether all others."""
        asked = [server] if server in self._since else list(self._since)
        return bool(asked) and all(map(self._has_taken_all, asked))

    def broke(self, server: str | None = None) -> None:
        """This server's heartbeats do not tell any more who lives; or any's: others may be masters, and know less."""
        if server is None:
            self._since.clear()
        else:
            self._since[server] = self._clock()

    @contextmanager
    def writing(self, server: str) -> Iterator[None]:
        """Around a write to this server, once a second; it has not been taken where it raises."""
        begun = self._begun[server] = self._clock()
        taken = False
        try:
            yield
            taken = self._clock() - begun < _SLOW_S
        finally:
            self._begun.pop(server, None)  # gone where two wrote: a heartbeat has moved to this server
            if not taken:
                self._since[server] = self._clock()
            else:
                self._since.setdefault(server, begun)

    def _has_taken_all(self, server: str) -> bool:
        now = self._clock()
        begun = self._begun.get(server, now)
        return now - begun < _WAITING_S and now - self._since.get(server, now) > _SETTLED_S
