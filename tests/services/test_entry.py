"""The first moment of the `voicebus` command."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    command = [sys.executable, "-c", "from voicebus_services.entry import main; main()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert told == ""
    assert process.returncode == -signal.SIGINT, "which a shell calls 130"


def test_it_is_the_command_line() -> None:
    command = [sys.executable, "-c", "from voicebus_services.entry import main; main()", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("voicebus ")
