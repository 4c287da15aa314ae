"""What programs of openai-agents catch where they use it wrongly is caught here by the same names.

One program makes the same mistakes with both packages. Ours are a `UserError` besides, and ours refuses more.
"""

import os
import sys
from pathlib import Path

import pytest

from support.programs import json_of
from support.real_clients import ENVIRONMENT, PROGRAMS

# The first test of a fresh clone installs the clients.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


async def caught(python: Path | str, sdk: str) -> dict[str, list[str] | None]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTHON", "VOICEBUS_"))}
    command = [str(python), str(PROGRAMS / "wrong_uses.py"), sdk]
    found: dict[str, list[str] | None] = await json_of(command, "wrong_uses", env=kept, timeout_s=100)
    return found


async def test_a_wrong_use_is_caught_by_the_names_that_programs_know() -> None:
    theirs = await caught(ENVIRONMENT / "bin" / "python", "agents")
    ours = await caught(sys.executable, "voicebus")
    assert theirs.keys() == ours.keys()
    assert sum(bool(kinds) for kinds in theirs.values()) > 100
    missed = {
        use: (kinds, ours[use])
        for use, kinds in theirs.items()
        if kinds is not None and not set(kinds) <= set(ours[use] or ())
    }
    assert missed == {}
