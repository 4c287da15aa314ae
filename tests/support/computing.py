"""Tools for processes of their own, and what such tools may do to theirs."""

import ctypes
import os
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from voicebus import ToolContext, function_tool

QUEUE = "default"


class Stay(BaseModel):
    name: str
    nights: int = 1


def gone(process: int) -> bool:
    """Whether there is no such process any more."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


class OddError(Exception):
    """Cannot be unpickled: it wants two arguments."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


@function_tool(executor="process", queue=QUEUE)
def where(stay: Stay) -> list[Any]:
    """Tell which process this runs in."""
    return [os.getpid(), stay.nights]


@function_tool(executor="process", queue=QUEUE)
async def later(number: int) -> int:
    """Add one, asynchronously."""
    return number + 1


@function_tool(executor="process", queue=QUEUE)
def extend(context: ToolContext[Stay], nights: int) -> str:
    """Extend a stay."""
    context.progress("counting")
    context.context.nights += nights
    return f"{context.tool_call_id} {context.context.nights}"


@function_tool(executor="process", queue=QUEUE)
def fail(how: str) -> Any:
    """End badly."""
    match how:
        case "raise":
            raise ValueError("out of stock")
        case "odd":
            raise OddError("odd", "really")
        case "exit":
            raise SystemExit(3)
        case "die":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "unsendable":
            return threading.Lock()
    return how


@function_tool(executor="process", queue=QUEUE, memory_limit="64MB")
def hoard(megabytes: int) -> int:
    """Take memory."""
    return len(bytearray(megabytes * 1024**2))


@function_tool(executor="process", queue=QUEUE, timeout=600)
def spin(started: str) -> None:
    """Compute for ever, after telling in a file which process does."""
    Path(started).write_text(str(os.getpid()))
    while True:
        time.sleep(0.001)


@function_tool(executor="process", queue=QUEUE)
def forget(context: ToolContext[dict[str, Any]], field: str) -> int:
    """Take a field of the context away, and set another."""
    del context.context[field]
    context.context["forgot"] = field
    return len(context.context)


@function_tool(executor="process", queue=QUEUE, memory_limit="1GB")
def exhaust() -> None:
    """Be out of memory."""
    raise MemoryError


NO_FUNCTION = 5
