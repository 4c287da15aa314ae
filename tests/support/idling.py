"""Waiting for a program by what it does, not by the clock: a slow machine is not taken for a program that hangs."""

import asyncio
from pathlib import Path
from typing import Final

LOOK_EVERY_S: Final = 0.25
IDLE_LOOKS: Final = 60
"""So many looks in a row (15 s of a machine that is not busy) at which nothing was done: it hangs."""


async def hangs(pid: int) -> None:
    """Return once the process and its descendants have only slept for `IDLE_LOOKS`.

    Looks are counted and not seconds: a test that the machine does not let run does not look either. A process that
    wants a processor and has none, or waits for a disk, is busy.
    """
    idle, before = 0, -1
    while idle < IDLE_LOOKS:
        await asyncio.sleep(LOOK_EVERY_S)
        spent, busy = _look(pid)
        idle = 0 if busy or spent != before else idle + 1
        before = spent


def _look(pid: int) -> tuple[int, bool]:
    """Ticks of a processor that the process and its descendants have used, and whether one of them is at work."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = [
            int(child)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0, True
    spent, busy = int(fields[11]) + int(fields[12]), fields[0] in "RD"
    for child in children:
        ticks, works = _look(child)
        spent, busy = spent + ticks, busy or works
    return spent, busy
