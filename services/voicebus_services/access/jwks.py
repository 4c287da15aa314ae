"""The keys that an issuer publishes (JWKS): from a URL or a file, kept, and read again in the background."""

import asyncio
import http.client
import json
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import jwt

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

JWKS_SETTING: Final = "VOICEBUS_JWT_JWKS"
REFRESH_S: Final = 300.0
RETRY_S: Final = 5.0
"""After a failure; and how soon an unknown key may have the keys read again, so that no caller drives that."""

FETCH_TIMEOUT_S: Final = 3.0
MAX_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 100


class KeysUnavailableError(Exception):
    """There are no keys to check a token with: their source has not answered yet."""


class KeySet:
    """The keys of `source`, an `http(s)://` address or a path. Run `keep` as a task.

    When reading fails, the keys read before stay in use.
    """

    def __init__(self, source: str) -> None:
        """A file is read at once.

        Raises:
            SettingsError: the file cannot be read or holds no keys.
        """
        self._source = source
        self._remote = source.startswith(("http://", "https://"))
        self._keys: dict[str | None, jwt.PyJWK] | None = None
        self._asked_at = -RETRY_S
        self._reading: asyncio.Task[None] | None = None
        if not self._remote:
            try:
                self._keys = _parse(_read(source))
            except (OSError, ValueError, jwt.PyJWTError) as error:
                raise SettingsError(
                    f"{JWKS_SETTING}: {source!r} was read, but it is no file of keys ({error});"
                    " name a JWKS file or its http(s):// address"
                ) from error

    async def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of this id; without an id the only one. One that is unknown has the keys read again first.

        Raises:
            KeysUnavailableError: nothing could be read yet.
        """
        key = self._known(kid)
        if key is None:
            await self.refresh()
            key = self._known(kid)
        if self._keys is None:
            raise KeysUnavailableError
        return key

    async def keep(self) -> None:
        """Read the keys again and again until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(RETRY_S if self._keys is None else REFRESH_S)

    async def refresh(self) -> None:
        """Read the keys, unless that was done within `RETRY_S`; whoever asks meanwhile waits for the same reading."""
        if self._reading is None or self._reading.done():
            if time.monotonic() < self._asked_at + RETRY_S:
                return
            self._asked_at = time.monotonic()
            self._reading = asyncio.create_task(self._read_again(), name="jwks")
        await asyncio.shield(self._reading)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        keys = self._keys or {}
        if kid is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(kid)

    async def _read_again(self) -> None:
        try:
            self._keys = _parse(await asyncio.to_thread(_fetch if self._remote else _read, self._source))
        except (OSError, http.client.HTTPException, ValueError, jwt.PyJWTError) as error:
            source = self._source.rpartition("@")[2]  # an address may hold a password
            log.error("the issuer's keys cannot be read", source=source, error=str(error))  # noqa: TRY400


def _fetch(url: str) -> bytes:
    # Schemes are checked by the setting; a hanging source costs a thread for the time-out.
    with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
        body: bytes = answer.read(MAX_BYTES + 1)
    return body


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _parse(text: bytes) -> dict[str | None, jwt.PyJWK]:
    if len(text) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    try:
        document: Any = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("there is no list `keys` in it")  # noqa: TRY004 - a wrong document, no wrong argument
    if not all(isinstance(key, dict) for key in document["keys"]):
        raise ValueError("a key in it is no object")
    if len(document["keys"]) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    # A key that is for encryption, or that the library cannot use, is passed over; with none left this raises. So is a
    # shared secret: published, it would let everybody sign.
    keys = [
        key
        for key in jwt.PyJWKSet.from_dict(document).keys
        if key.public_key_use in (None, "sig") and key.key_type != "oct"
    ]
    if not keys:
        raise ValueError("no key in it is for signatures")
    return {key.key_id: key for key in keys}
