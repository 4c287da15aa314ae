"""Services as child processes, started through the command line that users have."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

from support.waiting import wait_until

TESTS = Path(__file__).parents[1]


class Service:
    """A running service. `lines` is what it logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ops_port(self) -> int:
        """The ops port it took."""

        def found() -> int | None:
            for line in self.lines:
                if "ops port open" in line:
                    return int(json.loads(line)["port"])
            assert self.process.returncode is None, "\n".join(self.lines)
            return None

        port = await wait_until(found, description="the ops port", timeout=30)
        assert port is not None
        return port

    async def ready(self) -> None:
        port = await self.ops_port()

        def answers() -> bool:
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
                return bool(reply.status == 200)
            return False

        await wait_until(lambda: asyncio.to_thread(answers), description="readiness", timeout=30)

    async def metrics(self) -> Mapping[str, float]:
        """Samples by name with labels."""
        port = await self.ops_port()

        def fetch() -> str:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
                return str(reply.read().decode())

        text = await asyncio.to_thread(fetch)
        return {name: float(value) for name, value in re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE)}

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def service(*arguments: str, environment: Mapping[str, str]) -> AsyncIterator[Service]:
    """Run `voicebus ARGUMENTS`; killed at the end of the block if it still runs."""
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    settings = {"VOICEBUS_OPS_PORT": "0", "VOICEBUS_LOG_FORMAT": "json", "PYTHONPATH": python_path, **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebus_services.cli", *arguments, env=os.environ | settings,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    running = Service(process)

    async def collect() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            running.lines.append(line.decode(errors="replace").rstrip())

    collecting = asyncio.create_task(collect())
    try:
        yield running
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await collecting
