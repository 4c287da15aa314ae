"""Addresses of a gateway: from what people give to where its native face is."""

import json
from collections.abc import Mapping, Sequence
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


def is_of_a_session(url: str) -> bool:
    """Whether an address names a session, as the one does that `POST /v1/sessions` gives."""
    return bool(dict(parse_qsl(urlsplit(url).query)).get("session"))


class Destination:
    """What a link dials: a new session at first, or one that there is, and from then on the same one again.

    `asked` joins the address's query. `session` and `token` are "" where the address names none.
    """

    def __init__(self, url: str, asked: Mapping[str, str]) -> None:
        self._url = url
        self._asked = dict(asked)
        named = dict(parse_qsl(urlsplit(self.address).query))
        self.session: str = named.get("session", "")
        self.token: str = named.get("token", "")

    @property
    def address(self) -> str:
        """Where to connect first."""
        return native_address(self._url, self._asked)

    def enters(self, session: str, token: str) -> None:
        """Enter this session instead of a new one."""
        self._asked.pop("agent", None)
        self._asked |= {"session": session, "token": token}
        self.session, self.token = session, token

    def again(self, seq: int, turns: Sequence[tuple[str, int]] = ()) -> str:
        """Where to come back to, with everything up to `seq`; `turns` could be said again (their ms of sound)."""
        rest = {name: value for name, value in self._asked.items() if name not in ("agent", "seq", "record")}
        shown = {"token": self.token} if self.token else {}
        said = {"turns": json.dumps(turns, separators=(",", ":"))} if any(ms for _, ms in turns) else {}
        return native_address(self._url, {**rest, "session": self.session, **shown, "seq": str(seq), **said})


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in _WS or not parts.hostname:
        raise UserError(f"{url!r} is no gateway's address; ws://HOST:PORT or http://HOST:PORT is allowed")
    return url
