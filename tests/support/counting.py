"""Tools for tests of how many calls run at once: one that waits to be let go, and one that does not."""

import asyncio
from typing import Any

from voicebus import FunctionTool, function_tool


class Counting:
    """Makes tools named `count`, which wait to be let go (`go`), and counts how many of their calls run."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.starts = 0
        self.go = asyncio.Event()

    async def _count(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.starts += 1
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        return "counted"

    def tool(self, **limits: Any) -> FunctionTool:
        async def count() -> str:
            """Count."""
            return await self._count()

        tool: FunctionTool = function_tool(queue="default", **limits)(count)
        return tool


@function_tool(queue="default")
async def quick() -> str:
    """Be quick."""
    return "quick"
