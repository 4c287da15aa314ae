"""A tool worker as a process of its own, whose tools write down each start and each effect."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

from voicebus import FunctionTool, ToolContext, ToolWorker, function_tool
from voicebus.runtime.lifecycle import die_with_parent

QUEUES = ("north", "south", "west")


def write(file: Path, line: str) -> None:
    """One line, whole, also beside other processes that do the same."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def tools(folder: Path) -> list[FunctionTool]:
    """In each queue: one that may start once only, one that makes its effect once, and one in a thread."""
    made: list[FunctionTool] = []
    for queue in QUEUES:

        async def pay(context: ToolContext[Any]) -> str:
            """Take effect at each start."""
            write(folder / "starts", f"{context.idempotency_key} pay")
            await asyncio.sleep(random.random() * 0.05)
            write(folder / "effects", context.idempotency_key)
            return "paid"

        async def book(context: ToolContext[Any]) -> str:
            """Take effect once, however often it starts."""
            write(folder / "starts", f"{context.idempotency_key} book")
            await asyncio.sleep(random.random() * 0.05)
            try:
                os.close(os.open(folder / "booked" / context.idempotency_key, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return "booked before"
            return "booked"

        def stamp(context: ToolContext[Any]) -> str:
            """Take effect at each start, in a thread."""
            write(folder / "starts", f"{context.idempotency_key} stamp")
            context.cancellation.wait(random.random() * 0.05)
            write(folder / "effects", context.idempotency_key)
            return "stamped"

        for function, idempotent in ((pay, False), (book, True), (stamp, False)):
            name = f"{function.__name__}_{queue}"
            make = function_tool(queue=queue, idempotent=idempotent, name_override=name, circuit_breaker=None)
            made.append(make(function))
    return made


async def work(folder: Path, url: str, prefix: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = ToolWorker(
        tools(folder), redis_url=url, concurrency=20, drain_timeout=5.0, stream_prefix=prefix, wait_for_redis=True
    )
    await worker.run(stop, ready=(folder / f"ready-{os.getpid()}").touch)


def main(folder: Path, url: str, prefix: str) -> None:
    """Run one worker; what it says goes to the folder's log."""
    die_with_parent()
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    asyncio.run(work(folder, url, prefix))
