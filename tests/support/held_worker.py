"""A tool worker as a process of its own, whose calls last until their worker is killed, or as long as they are told."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from voicebus import FunctionTool, ToolContext, ToolWorker, function_tool
from voicebus.runtime.lifecycle import die_with_parent

QUEUE = "held"
HELD_S = 600.0


def tools() -> list[FunctionTool]:
    """`look` may start again, `pay` may not; both hold their first worker. `wait` takes its time."""

    async def look(context: ToolContext[Any]) -> str:
        """Look, for ever at the first time."""
        if context.attempt == 1:
            await asyncio.sleep(HELD_S)
        return "seen"

    async def pay() -> str:
        """Pay, for ever."""
        await asyncio.sleep(HELD_S)
        return "paid"

    async def wait(context: ToolContext[Any], seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return f"start {context.attempt}"

    return [
        function_tool(queue=QUEUE, idempotent=function is not pay, name_override=function.__name__)(function)
        for function in (look, pay, wait)
    ]


async def _work(folder: Path, url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = ToolWorker(tools(), redis_url=url, concurrency=40, drain_timeout=1.0)
    await worker.run(stop, ready=(folder / f"ready-{os.getpid()}").touch)


def main(folder: Path, url: str) -> None:
    """Run one worker; what it says goes to the folder's log."""
    die_with_parent()
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    asyncio.run(_work(folder, url))
