"""The tests' own Docker daemon does not outlive a run that is killed."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from deploy.daemon import PROGRAM, discard
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

_RUN: Final = "from deploy.daemon import Daemon; print(Daemon().start() or 'up', flush=True); input()"


async def test_a_run_that_is_killed_leaves_no_daemon_behind() -> None:
    if os.geteuid() != 0 or not all(map(shutil.which, (PROGRAM, "docker", "setpriv"))):
        pytest.skip(f"{PROGRAM} is not started here: it, docker or setpriv is missing, or this is not root")
    folder = Path(tempfile.mkdtemp(prefix="vb-"))  # short, for its sockets
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        (sys.executable, "-c", _RUN), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        told = run.stdout.readline().strip()
        (pid,) = [int(path.read_text()) for path in folder.glob("*/docker.pid")] if told == "up" else [None]
        run.kill()
    if pid is None:
        shutil.rmtree(folder)
        pytest.skip(f"{PROGRAM} does not start here ({told})")

    def ended() -> bool:
        with suppress(FileNotFoundError):
            return not Path(f"/proc/{pid}/cmdline").read_bytes()  # empty of one that nobody has asked for its status
        return True

    await wait_until(ended, description="the daemon's end", timeout=90)
    discard(folder)
