"""Calls at a model's provider (protocol section 7): made from a WebRTC offer, and hung up. Audio goes past us."""

import json
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx2

from voicebus.adapters.sockets.proxies import proxy_of
from voicebus.errors import ModelCallError, ModelLinkError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

CREATE_TIMEOUT_S: Final = 10.0
HANG_UP_TIMEOUT_S: Final = 5.0

_MAX_ANSWER: Final = 1024 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_GONE: Final = frozenset({404, 409})


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: its id, and the SDP answer for whoever offered."""

    id: str
    answer: bytes


class OpenAICalls:
    """The calls of the provider whose WebSocket address is `url`. Close it.

    `headers` are asked for at each request, as they carry the credential, which may expire.
    """

    def __init__(
        self, url: str, headers: Callable[[], Awaitable[Mapping[str, str]]], *, tls: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(url)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        self._url = urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/calls", "", ""))
        self._where = parts.netloc.rpartition("@")[2]
        # Through the proxy of the model's socket, and with our credentials alone: no .netrc.
        self._http = httpx2.AsyncClient(
            timeout=CREATE_TIMEOUT_S, trust_env=False, verify=True if tls is None else tls, proxy=proxy_of(url)
        )
        self._headers = headers

    async def aclose(self) -> None:
        await self._http.aclose()

    async def create(self, offer: bytes, session: Mapping[str, Any]) -> Call:
        """Make a call from an SDP offer, with this session configuration.

        Raises:
            ModelCallError: the provider refused, cannot be reached, or did not answer.
        """
        parts = {
            "sdp": (None, offer, "application/sdp"),
            "session": (None, json.dumps(session).encode(), "application/json"),
        }
        response, body = await self._post(self._url, files=parts)
        if not 200 <= response.status_code < 300:
            raise _refused(self._where, response.status_code, body)
        call_id = urlsplit(response.headers.get("location", "")).path.rpartition("/")[2]
        if not _ID.fullmatch(call_id):
            raise ModelCallError(f"the model at {self._where} made a call without saying which", status=None)
        return Call(call_id, body)

    async def hang_up(self, call_id: str) -> None:
        """End a call; one that is over already is no failure.

        Raises:
            ModelCallError: it may go on.
        """
        response, body = await self._post(f"{self._url}/{call_id}/hangup", timeout=HANG_UP_TIMEOUT_S)
        if not 200 <= response.status_code < 300 and response.status_code not in _GONE:
            raise _refused(self._where, response.status_code, body)

    async def _post(self, url: str, **options: Any) -> tuple[httpx2.Response, bytes]:
        body = bytearray()
        try:
            headers = dict(await self._headers())
            async with self._http.stream("POST", url, headers=headers, **options) as response:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > _MAX_ANSWER:
                        raise ModelCallError(f"the model at {self._where} answers with more than {_MAX_ANSWER} bytes")
        except ModelLinkError as error:  # there is no key
            raise ModelCallError(str(error), code=error.code) from error
        except httpx2.TimeoutException as error:
            raise ModelCallError(f"the model at {self._where} did not answer in time", code="timeout") from error
        except httpx2.HTTPError as error:
            raise ModelCallError(f"the model at {self._where} cannot be reached ({error})") from error
        return response, bytes(body)


def _refused(where: str, status: int, body: bytes) -> ModelCallError:
    code, message = None, ""
    try:
        error = json.loads(body)["error"]
        code, message = error.get("code"), str(error.get("message") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        log.debug("a refusal without an error object", status=status)
    why = f": {message[:500]}" if message else ""
    return ModelCallError(
        f"the model at {where} refused the call (HTTP {status}){why}",
        status=status,
        code=code if isinstance(code, str) else None,
    )
