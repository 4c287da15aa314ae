"""The API keys now valid: read from a file, and read again whenever it changes."""

import asyncio
import hmac
from pathlib import Path
from typing import Final

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.keyfile import Key, KeyFileError, digest, parse
from voicebus_services.access.principal import Principal

log: Final = get_logger(__name__)

KEYS_SETTING: Final = "VOICEBUS_API_KEYS_FILE"
POLL_S: Final = 1.0
"""How often the file is looked at: a revoked key opens nothing this much later."""

_Version = tuple[int, int, int]


class KeyStore:
    """The keys of one file. Run `keep` as a task, so that changes of the file count without a restart."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: it cannot be read or is no file of keys.
        """
        self._path = path
        self._version = _version(path)
        self._keys = _read(path)

    def find(self, presented: str) -> Principal | None:
        """Whose key this is. Compares with every key, in constant time."""
        wanted = digest(presented)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, wanted):
                found = key.principal
        return found

    def holds(self, key_id: str, mark: str) -> bool:
        """Whether there is this very key under this id, and it has not expired."""
        wanted = (key_id, mark)
        return any(
            (key.principal.key_id, key.principal.mark) == wanted and not key.principal.expired() for key in self._keys
        )

    async def keep(self) -> None:
        """Look at the file until cancelled. One that cannot be used is logged once, and the keys before it stay."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        version = await asyncio.to_thread(_version, self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._keys = await asyncio.to_thread(_read, self._path)
        except SettingsError as error:
            log.error("the keys before stay valid", error=str(error))  # noqa: TRY400 - the sentence says it all
        else:
            log.info("API keys read again", keys=len(self._keys))


def _version(path: Path) -> _Version | None:
    """What changes with the file, also where a mounted secret is swapped by its link; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{KEYS_SETTING}: {str(path)!r} cannot be read ({error}); name a readable text file"
        ) from error
    except KeyFileError as error:
        raise SettingsError(f"{KEYS_SETTING}: {str(path)!r} was read, but {error}") from error
