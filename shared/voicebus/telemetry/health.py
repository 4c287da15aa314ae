"""The ops port: `/metrics`, `/livez`, `/readyz`, served from a thread of its own.

A thread, so that a stuck event loop is *reported* (liveness fails) instead of merely not answering.
"""

import asyncio
import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from voicebus.errors import SettingsError
from voicebus.telemetry import metrics

LOOP_STUCK_AFTER_S: Final = 10.0
LOOP_PROBE_S: Final = 0.5

FAMILY_MISSING: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""What a machine says of an address of a family (IPv4, IPv6) that it does not have."""


class Health:
    """Whether a service lives and is ready.

    Ready means: every named condition is met and no drain has begun. Conditions start unmet, so a service names all
    of them before it opens its ops port. Safe to read from the ops thread.
    """

    def __init__(self, *conditions: str) -> None:
        self._conditions = dict.fromkeys(conditions, False)
        self._beat = time.monotonic()
        self._alive: list[Callable[[], bool]] = []
        self.draining: bool = False

    def set(self, condition: str, met: bool) -> None:
        self._conditions[condition] = met

    def drain(self) -> None:
        """Readiness goes false for good; what is in hand goes on."""
        self.draining = True
        metrics.DRAINING.set(1)

    async def drain_at(self, stop: asyncio.Event) -> None:
        """Wait for `stop`, then `drain`; run it as a task of a service whose work ends by itself at `stop`."""
        await stop.wait()
        self.drain()

    @property
    def ready(self) -> bool:
        return not self.draining and all(self._conditions.values())

    def lives_while(self, alive: Callable[[], bool]) -> None:
        """Live only where `alive` says so, too, for what only a new process mends. Any thread may ask it."""
        self._alive.append(alive)

    @property
    def live(self) -> bool:
        return time.monotonic() - self._beat < LOOP_STUCK_AFTER_S and all(alive() for alive in self._alive)

    def report(self) -> dict[str, Any]:
        return {"ready": self.ready, "live": self.live, "draining": self.draining, "conditions": dict(self._conditions)}

    async def watch_loop(self) -> None:
        """Beat for as long as the event loop turns; run it as a task of the service."""
        while True:
            due = time.monotonic() + LOOP_PROBE_S
            await asyncio.sleep(LOOP_PROBE_S)
            self._beat = time.monotonic()
            metrics.EVENT_LOOP_LAG.set(max(0.0, self._beat - due))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A prober that hangs up early is no event."""


class _BothFamilies(_Server):
    """Of `::`, which is every address of this machine: those of IPv4 as well."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _QuietHandler(WSGIRequestHandler):
    timeout = 10
    disable_nagle_algorithm = True  # head and body are written one by one

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Probes every few seconds are not worth a line."""


class OpsServer:
    """Serves one process's ops port; use as a context manager. `port` is the one really taken."""

    def __init__(self, health: Health, *, host: str, port: int) -> None:
        self._health = health
        self._metrics = make_wsgi_app()
        try:
            self._server = self._opened(host, port)
        except OSError as error:
            raise SettingsError(
                f"VOICEBUS_OPS_PORT: {host}:{port} cannot be opened ({error.strerror}); free it or choose another"
            ) from error
        self.port: int = int(self._server.server_port)
        self._thread = threading.Thread(target=self._serve, name="ops", daemon=True)
        self._closing = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError), socket.socket(self._server.address_family) as knock:
            knock.settimeout(1)
            knock.connect(self._server.server_address)
        self._thread.join(timeout=2)
        self._server.server_close()

    def _opened(self, host: str, port: int) -> WSGIServer:
        kind = _BothFamilies if ":" in host else _Server
        try:
            return make_server(host, port, self._answer, server_class=kind, handler_class=_QuietHandler)
        except OSError as error:
            if host != "::" or error.errno not in FAMILY_MISSING:
                raise
            return self._opened("0.0.0.0", port)  # noqa: S104 - what `::` is on a machine without IPv6

    def _serve(self) -> None:
        # Not `serve_forever`, which looks 20 times a second whether it is to end: each look takes the interpreter from
        # the event loop, in all 0.8 ms of processor time a second.
        while not self._closing:
            self._server.handle_request()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        good = {"/livez": self._health.live, "/readyz": self._health.ready}.get(path)
        if good is None:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /livez or /readyz\n"]
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps(self._health.report()).encode() + b"\n"]
