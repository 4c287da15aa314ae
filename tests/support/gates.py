"""Gates for authors' functions of a test, so that nothing depends on how fast they are."""

import asyncio


class Gates:
    """What authors' functions wait for: all ways to hold a conversation run them in the test's own process."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}

    def close_all(self) -> None:
        self._open = {}

    def open(self, name: str) -> None:
        self._gate(name).set()

    async def passed(self, name: str) -> None:
        """Wait until the gate of this name is open."""
        await self._gate(name).wait()

    def _gate(self, name: str) -> asyncio.Event:
        return self._open.setdefault(name, asyncio.Event())
