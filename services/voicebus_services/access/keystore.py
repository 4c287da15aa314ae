"""The API keys now valid: read from a file, and read again whenever it changes."""

import hmac
from pathlib import Path
from typing import Final

from voicebus.errors import SettingsError
from voicebus_services.access.keyfile import Key, KeyFileError, digest, parse
from voicebus_services.access.principal import Principal
from voicebus_services.watched import Watched

KEYS_SETTING: Final = "VOICEBUS_API_KEYS_FILE"


class KeyStore:
    """The keys of one file. Run `keep` as a task, so that changes of the file count without a restart."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: it cannot be read or is no file of keys.
        """
        self._file = Watched(path, _read)

    @property
    def _keys(self) -> tuple[Key, ...]:
        return self._file.now

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
        await self._file.keep()

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        await self._file.refresh()


def _read(path: Path) -> tuple[Key, ...]:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{KEYS_SETTING}: {str(path)!r} cannot be read ({error}); name a readable text file"
        ) from error
    except KeyFileError as error:
        raise SettingsError(f"{KEYS_SETTING}: {str(path)!r} was read, but {error}") from error
