"""`voicebus dev` as a developer starts it: a process of its own that says where it serves."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.commands import environment

FREE_PORTS: Final = ("--http-port", "0", "--archiver-port", "0", "--simulator-port", "0", "--ops-port", "0")


@dataclass(frozen=True)
class Developing:
    """A running `voicebus dev`: its process, its address, and all that it had printed once it served."""

    process: asyncio.subprocess.Process
    url: str
    said: str


@asynccontextmanager
async def developing(*arguments: str, cwd: Path) -> AsyncIterator[Developing]:
    """`voicebus dev ARGUMENTS` in `cwd`, on free ports; killed at the end where it still runs."""
    log = cwd / "log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicebus_services.cli", "dev", *arguments, *FREE_PORTS,
            cwd=cwd, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(90):
            while "serving: " not in said:
                line = (await process.stdout.readline()).decode()
                assert line, f"it ended: {said} {log.read_text()[-2000:]}"
                said += line
        found = re.search(r"serving: (\S+)", said)
        assert found is not None
        yield Developing(process, found[1].rstrip("/"), said)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
