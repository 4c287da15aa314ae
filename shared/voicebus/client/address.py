"""Addresses of a gateway: from what people give to where its native face is."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from voicebus.errors import UserError

_WS: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_HTTP: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PATH: Final = "/v1/sessions/connect"
_CREATE: Final = "/v1/sessions"


def native_address(url: str, asked: Mapping[str, str]) -> str:
    """Where the native face is. `url` is a gateway's (`http`, `https`, `ws` or `wss`), with a path of its own or
    without one; `asked` joins its query.

    Raises:
        UserError: it is no gateway's address.
    """
    parts = urlsplit(_checked(url))
    query = urlencode({**dict(parse_qsl(parts.query, keep_blank_values=True)), **asked})
    path = parts.path if parts.path.strip("/") else _PATH
    return urlunsplit((_WS[parts.scheme], parts.netloc, path, query, ""))


def creating_address(url: str) -> str:
    """Where sessions are created over HTTP.

    Raises:
        UserError: it is no gateway's address.
    """
    parts = urlsplit(_checked(url))
    path = parts.path.removesuffix("/").removesuffix("/connect")
    return urlunsplit((_HTTP[parts.scheme], parts.netloc, path or _CREATE, "", ""))


def session_in(url: str) -> tuple[str, str] | None:
    """The session and the token that an address names, as `POST /v1/sessions` gives it; None where it names none."""
    query = dict(parse_qsl(urlsplit(url).query))
    return (query["session"], query["token"]) if query.get("session") and query.get("token") else None


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _WS or not parts.hostname:
        raise UserError(f"{url!r} is no gateway's address; ws://HOST:PORT or http://HOST:PORT is allowed")
    return url
