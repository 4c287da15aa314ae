"""Start and stop of a service process: signals, the ops port, the loop probe, and one deadline for the drain."""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from voicebus.telemetry.health import Health, OpsServer
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

T = TypeVar("T")

_PR_SET_PDEATHSIG: Final = 1

# Objects of events and calls die young and without cycles, so looking for some after every 700 is a good part of a busy
# service's processor time for nothing. Full collections come as often as by Python's own (700, 10, 10).
_COLLECTIONS: Final = (10_000, 5, 2)
_LARGE: Final = 1024 * 1024
# Of glibc's `mallopt`; given once, the threshold stays.
_MMAP_THRESHOLD: Final = -3


class StopEvent(asyncio.Event):
    """Set by the first SIGINT or SIGTERM; `number` is which."""

    number: signal.Signals | None = None


# Signals belong to the process, and so does the knowledge of which one ended it.
_stop: StopEvent | None = None


def stop_event() -> StopEvent:
    """An event that SIGINT and SIGTERM set; also where the parent had them ignored (`nohup`, background shells).

    A second signal changes nothing: the drain has its own deadline.
    """
    global _stop  # noqa: PLW0603 - see above
    event = _stop = StopEvent()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        event.number = event.number or number
        event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return event


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent dies, so that a killed parent leaves no children."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def operating(health: Health, *, host: str, port: int) -> AsyncIterator[OpsServer]:
    """Serve the ops port and probe the loop for as long as the block runs.

    Raises:
        SettingsError: the port cannot be opened.
    """
    with OpsServer(health, host=host, port=port) as ops:
        log.info("ops port open", host=host, port=ops.port)
        probe = asyncio.create_task(health.watch_loop(), name="loop-probe")
        try:
            yield ops
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)


def spare_the_collector(collections: tuple[int, int, int] = _COLLECTIONS) -> None:
    """Have the garbage collector look at less and less often; for a service that has loaded all that it needs.

    `collections` are its thresholds: new objects before a look at these, and such looks before one at older ones.
    What is there by now stays for good. A full collection that went through it again and again would stop everything
    for 30 to 100 ms; frozen, it looks at what came later alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*collections)


def return_large_memory(threshold: int = _LARGE) -> None:
    """Have blocks of memory of `threshold` bytes or more go back to the system once they are not needed.

    As they come and go, glibc keeps larger and larger ones for later, up to 32 MiB: what the largest messages took once
    would be the process's for good.
    """
    with contextlib.suppress(AttributeError, OSError):  # another library for C
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, threshold)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a service's main coroutine, on uvloop where it is installed.

    Raises:
        KeyboardInterrupt: SIGINT ended it, in order; for the exit status.
    """
    try:
        import uvloop
    except ImportError:
        outcome = asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(main)
    if _stop is not None and _stop.is_set():
        # Python's own end restores their default, and takes a while: what has ended in order would end as killed.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if _stop is not None and _stop.number is signal.SIGINT:
        raise KeyboardInterrupt
    return outcome
