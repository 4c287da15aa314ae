"""Functions that give a model's key, for settings that name one; `ASKED` tells which were asked."""

import asyncio
import threading
from typing import Any, Final

ASKED: list[str] = []

RELEASE: Final = threading.Event()
"""What `stuck_token` waits for, which blocks whoever calls it."""


def token() -> str:
    """The key of this moment."""
    ASKED.append("sync")
    return "test"


async def slow_token() -> str:
    """The same, from somewhere else."""
    ASKED.append("async")
    return "test"


def raising_token() -> str:
    raise OSError("the secret s3cret has expired")


def stuck_token() -> str:
    RELEASE.wait()
    return "test"


async def endless_token() -> str:
    await asyncio.Event().wait()
    return "test"


def no_token() -> Any:
    """What a function does that forgets its `return`."""


def number_token() -> Any:
    return 5


def empty_token() -> str:
    return ""
