"""Programs of other runtimes, which tell what they have seen by the last line that they print."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any


async def json_of(
    command: Sequence[str], name: str, *, env: Mapping[str, str], stdin: bytes = b"", timeout_s: float = 50
) -> Any:
    """Run `command` with `env` alone; returns the JSON that it prints last. One that fails, or says nothing, fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, complaints = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{name} failed:\n{complaints.decode()[-6000:]}"
    assert output.strip(), f"{name} printed nothing:\n{complaints.decode()[-6000:]}"
    return json.loads(output.splitlines()[-1])
