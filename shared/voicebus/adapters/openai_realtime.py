"""The link to a model: a WebSocket to any server of the OpenAI Realtime protocol (OpenAI, Azure, our simulator).

Knows addresses, credentials and the failures of connecting; what is said on the link is the engine's business.
"""

import copy
import functools
import ssl
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

import picows
from python_socks import ProxyError

from voicebus.adapters.model_address import joining_url, model_url
from voicebus.adapters.model_key import Key, authorization, key_from
from voicebus.adapters.sockets import MAX_MESSAGE, Keepalive, Socket
from voicebus.adapters.sockets.dialling import connect
from voicebus.adapters.sockets.proxies import proxy_of
from voicebus.engine import wire
from voicebus.engine.failures import NO_CALL, code_of, is_fatal, is_fatal_status
from voicebus.errors import ModelLinkError, SettingsError
from voicebus.ports import ModelListener
from voicebus.runtime.frames import dump_event, parse_event

CONNECT_TIMEOUT_S: Final = 10.0

MODEL_PING_INTERVAL_S: Final = 5.0
"""A link that is dead without a word is known for dead 27 s after its last event (a pong is waited for 20 s, the close
2 s): before an answer that it broke off is given up as one that stalls (30 s), and would not be asked for again."""

_KEEPALIVE: Final = Keepalive(interval_s=MODEL_PING_INTERVAL_S)

_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "api-key"})
_BETA_HEADER: Final = "openai-beta"
_DIGITS: Final = 10  # of a number of seconds
_REAL_HOSTS: Final = ("api.openai.com", ".azure.com")


def authenticates(headers: Mapping[str, str]) -> bool:
    """Whether one of these headers carries a credential."""
    return bool({name.lower() for name in headers} & _CREDENTIAL_HEADERS)


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may be sent to somebody else."""
    return {name: value for name, value in headers.items() if name.lower() not in _CREDENTIAL_HEADERS}


class OpenAIRealtimeConnector:
    """Opens links to one model address. Implements `ModelConnector`.

    `headers` are added to each request; where they carry credentials, `api_key` is not sent. The beta header is
    never sent, also where `headers` hold one: servers of today refuse it. `max_message` bounds what the server may
    send at once, in bytes; None does not.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: Key | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        keepalive: Keepalive = _KEEPALIVE,
        max_message: int | None = MAX_MESSAGE,
    ) -> None:
        self._url = url
        self._keepalive = keepalive
        self._max_message = max_message
        self._timeout_s = connect_timeout_s
        self._tls = _tls_context() if urlsplit(url).scheme == "wss" else None
        self._headers = {name: value for name, value in (headers or {}).items() if name.lower() != _BETA_HEADER}
        self._key: Key | None = (api_key or None) if not authenticates(self._headers) else None
        if "user-agent" not in {name.lower() for name in self._headers}:
            self._headers["User-Agent"] = f"voicebus/{version('voicebus')}"

    @property
    def server(self) -> str:
        """Host and port of the address, for messages: its user, password and query may be credentials."""
        return urlsplit(self._url).netloc.rpartition("@")[2]

    @property
    def url(self) -> str:
        return self._url

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For an address with TLS."""
        return self._tls

    def joining(self, call_id: str) -> "OpenAIRealtimeConnector":
        """The way to a call of this server, which others hold: a sideband."""
        joined = copy.copy(self)
        joined._url = joining_url(self._url, call_id)  # noqa: SLF001 - of its own kind
        return joined

    def require_credentials(self) -> None:
        """Refuse to dial a real provider without a key.

        Raises:
            SettingsError: the address is one of OpenAI or Azure, and there is neither key nor credential header; or the
                environment names a proxy to it that is none.
        """
        proxy_of(self._url)
        host = urlsplit(self._url).hostname or ""
        real = any(host == known or (known.startswith(".") and host.endswith(known)) for known in _REAL_HOSTS)
        if real and self._key is None and not authenticates(self._headers):
            raise SettingsError(
                f"VOICEBUS_MODEL_API_KEY: none was given, but the model address {host} needs one; set it or "
                "OPENAI_API_KEY, or point VOICEBUS_MODEL_URL to a model-simulator"
            )

    async def connect(self, listener: ModelListener, *, model: str) -> "OpenAIRealtimeLink":
        """Open one link.

        Raises:
            ModelLinkError: refused, unreachable or timed out; fatal where the server refused the request as such.
        """
        link = OpenAIRealtimeLink(listener)
        where = self.server
        try:
            await connect(
                model_url(self._url, model),
                link,
                headers=await self.headers(),
                timeout_s=self._timeout_s,
                tls=self._tls,
                keepalive=self._keepalive,
                max_message=self._max_message,
                proxy=proxy_of(self._url),
            )
        except TimeoutError as error:
            raise ModelLinkError(f"the model at {where} did not answer within {self._timeout_s:g} s") from error
        except picows.WSHandshakeError as error:
            status = int(error.response.status) if error.response is not None else None
            told = _fatal_code(error.raw_body or b"")
            raise ModelLinkError(
                f"the model at {where} refused the connection ({f'HTTP {status}' if status else error})",
                code=told or self._code(status),
                fatal=told is not None or (status is not None and is_fatal_status(status)),
                retry_after=_retry_after(error.response),
            ) from error
        except ProxyError as error:
            raise ModelLinkError(f"the model at {where} cannot be reached (the proxy refused: {error})") from error
        except (OSError, picows.WSError) as error:
            why = str(error) or "the connection was lost before it was a WebSocket"
            raise ModelLinkError(f"the model at {where} cannot be reached ({why})") from error
        return link

    def _code(self, status: int | None) -> str | None:
        """The protocol's error code for a refusal by HTTP."""
        if status in (401, 403):
            return "invalid_api_key"
        return NO_CALL if status == 404 and "call_id=" in self._url else None

    async def headers(self) -> Mapping[str, str]:
        """What a request to this server carries, with the key of this moment: never for a log.

        Raises:
            ModelLinkError: the function that gives the key raised, did not return in time, or gave none; or no header
                can carry the key.
        """
        if self._key is None:
            return self._headers
        key = self._key if isinstance(self._key, str) else await key_from(self._key, within_s=self._timeout_s)
        return {**self._headers, "Authorization": authorization(key)}


class OpenAIRealtimeLink:
    """One open link. Implements `ModelLink`, and hears from its socket."""

    def __init__(self, listener: ModelListener) -> None:
        self._listener = listener
        self._socket: Socket | None = None
        self._closed_by_us = False
        # Who hears is the listener: nothing stands between it and the socket, which audio would pay for. The protocol
        # has no binary messages; the listener will find that one is no event, and say so.
        self.text: Callable[[bytes], None] = listener.model_frame
        self.binary: Callable[[bytes], None] = listener.model_frame
        self.send_frame: Callable[[bytes], None] = _nowhere

    def send(self, event: Mapping[str, Any]) -> None:
        self.send_frame(dump_event(event))

    async def close(self) -> None:
        self._closed_by_us = True
        if self._socket is not None:
            self._socket.close()
            await self._socket.wait_closed()

    # --- SocketListener -----------------------------------------------------------------------------

    def opened(self, socket: Socket) -> None:
        self._socket = socket
        self.send_frame = socket.send_text

    def closed(self, code: int, reason: str) -> None:
        if not self._closed_by_us:
            self._listener.model_lost(f"the model closed the link ({code}{f' {reason}' if reason else ''})", code)


def _nowhere(_: bytes) -> None:
    """There is no socket yet."""


def _retry_after(answer: picows.WSUpgradeResponse | None) -> float:
    """How long a server asks to be left alone (s), where it says so in seconds; a date would be of its own clock."""
    given = answer.headers.get("Retry-After", "") if answer is not None and answer.headers else ""
    return float(given) if given.isascii() and given.isdigit() and len(given) < _DIGITS else 0.0


def _fatal_code(body: bytes) -> str | None:
    """The protocol's code in the body of a refusal, where it is one that dialling again cannot mend.

    The status alone does not tell: a quota that is used up is a 429, as a rate limit is. `body` is what came along with
    the head, which a provider's short JSON does; the lines of a chunked one are left out.
    """
    try:
        refusal = parse_event(body[body.find(b"{") : body.rfind(b"}") + 1])
    except ValueError:
        return None
    code = code_of(wire.mapping(refusal, "error"))
    return code if is_fatal(code) else None


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: reading the certificate authorities takes tens of milliseconds of the event loop."""
    return ssl.create_default_context()
