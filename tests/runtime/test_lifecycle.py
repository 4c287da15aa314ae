"""The end of a service's process: signals, and the status that it leaves."""

import platform
import signal
import subprocess
import sys

import pytest

_SERVICE = """
import os
from voicebus.runtime.lifecycle import run, stop_event

class Last:
    def __del__(self, write=os.write, read=os.read):
        write(1, b"nearly gone\\n")
        read(0, 1)

async def main():
    stopped = stop_event()
    os.write(1, b"runs\\n")
    await stopped.wait()

last = Last()
run(main())
"""
"""Something of it is still there when Python itself comes to its end."""


@pytest.mark.parametrize(("first", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, -signal.SIGINT)])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_changes_nothing_however_late_it_comes(
    first: signal.Signals, status: int, second: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.send_signal(first)
        assert process.stdout.readline() == b"nearly gone\n"
        process.send_signal(second)
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.wait() == status


_MEMORY = """
import ctypes, sys
from voicebus.runtime.lifecycle import return_large_memory

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

if sys.argv[1] == "return":
    return_large_memory()
SIZE = 24 * 1024 * 1024
del (a := [bytearray(SIZE)])[:]  # from here on glibc would keep what is no larger
kept, blocks = [], []
for _ in range(8):
    blocks.append(bytearray(SIZE))
    kept.append(bytearray(400_000))
before = resident()
blocks.clear()
print(before - resident() >= 7 * SIZE)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc, no memory that it keeps")
@pytest.mark.parametrize(("how", "back"), [("return", "True"), ("keep", "False")])
def test_large_blocks_go_back_to_the_system_where_they_are_asked_to(how: str, back: str) -> None:
    done = subprocess.run([sys.executable, "-c", _MEMORY, how], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == back
