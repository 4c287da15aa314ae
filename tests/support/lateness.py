"""How late a busy machine lets the event loop be: what a moment of a real clock may differ by besides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from support.tasks import running

_EVERY_S: Final = 0.005
_NO_WONDER_S: Final = 0.01


@asynccontextmanager
async def lateness() -> AsyncIterator[Callable[[], float]]:
    """Tells by how many seconds this loop has been late so far, all times that it was by more than 10 ms together."""
    total = 0.0

    async def look() -> None:
        nonlocal total
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            late = loop.time() - due
            if late > _NO_WONDER_S:
                total += late

    async with running(look()):
        yield lambda: total
