"""What the tests of docker-compose.yml stand on, as far as it needs no engine."""

import sys
from subprocess import Popen

import pytest

from deploy.compose_cluster import running


def test_a_command_and_its_pipes_end_with_their_block_also_where_that_fails() -> None:
    reads_nothing = (sys.executable, "-c", "import time; print('there', flush=True); time.sleep(600)")
    seen: list[Popen[str]] = []

    def fails() -> None:
        with running(reads_nothing) as process:
            seen.append(process)
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            process.stdin.write("waits to be written")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    (process,) = seen
    assert process.returncode is not None
    assert [pipe and pipe.closed for pipe in (process.stdin, process.stdout, process.stderr)] == [True] * 3
