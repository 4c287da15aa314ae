"""Running the `voicebus` command as a user does: a process of its own, its output, its exit status."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that says what was wrong; fails where there is none, several, or a traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("voicebus: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def environment(**settings: Any) -> dict[str, str]:
    """This process's environment without any Voicebus or provider setting, and with `settings` as VOICEBUS_*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEBUS_", "OPENAI_"))}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        **{f"VOICEBUS_{name.upper()}": str(value) for name, value in settings.items()},
    }


async def voicebus(
    *arguments: str, cwd: Path | None = None, stdin: str = "", timeout_s: float = 45, **settings: Any
) -> Ran:
    """Run `voicebus ARGUMENTS` to its end; `settings` become VOICEBUS_* variables."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "voicebus_services.cli",
        *arguments,
        cwd=cwd,
        env=environment(**settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"voicebus {' '.join(arguments)} did not end; it said: {err.decode()[-2000:]}") from None
    return Ran(process.returncode or 0, out.decode(), err.decode())
