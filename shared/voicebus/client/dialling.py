"""Opening connections of the native face: one attempt, and how long to wait before the next."""

import random
import ssl
from collections.abc import Mapping
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voicebus.adapters.sockets.proxies import proxy_of
from voicebus.errors import RemoteError

CONNECT_TIMEOUT_S: Final = 10.0
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
# Twice that often the first delay is the longest by far; more would be no number of seconds any more.
_DOUBLINGS: Final = 16


class _Connect(connect):
    """Redirects are not followed: the credentials are for this address alone."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def dial(address: str, *, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> ClientConnection:
    """A connection to this address; without `tls` that decides.

    Raises:
        RemoteError: no gateway answers there, or it refused the connection.
        SettingsError: a proxy is named that is none.
    """
    where = address.partition("?")[0]  # without what may be secret in it
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        return await _Connect(
            address, additional_headers=headers, open_timeout=CONNECT_TIMEOUT_S, max_size=None,
            proxy=proxy_of(address), **options,
        )  # fmt: skip
    except InvalidStatus as error:
        said = (error.response.body or b"").decode(errors="replace").strip()[:200]
        raise RemoteError(f"{where} refused with HTTP {error.response.status_code} {said}".rstrip()) from error
    except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
        # Closed before it was asked anything: by what passes connections on (a proxy of ports, a load balancer) and
        # has nobody to pass this one on to.
        why = str(error) or type(error).__name__
        raise RemoteError(f"no gateway answers at {where} ({why})") from error


def delay(attempt: int) -> float:
    """How long to wait before this attempt (s): longer each time, and never the same as others do."""
    longest: float = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, _DOUBLINGS))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
