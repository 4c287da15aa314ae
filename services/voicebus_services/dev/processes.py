"""Child processes of `voicebus dev`: started, watched, their logs prefixed, ended together."""

import asyncio
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from voicebus.errors import SettingsError, VoicebusError
from voicebus_services.settings import DIE_WITH_PARENT

_KILL_AFTER_S: Final = 15.0
_LINE_LIMIT: Final = 1 << 20


class ChildError(VoicebusError):
    """A child process ended, or was not ready in time."""


class Child:
    """One process. Its output goes to stderr line by line, prefixed with its name.

    `ready_after_s` is how long it took until it was first seen ready.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._started = time.monotonic()
        self.ready_after_s = 0.0
        self._last: deque[str] = deque(maxlen=5)
        self._pump = asyncio.create_task(self._read(), name=f"log {name}")

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], *, environment: Mapping[str, str]) -> "Child":
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env={**environment, DIE_WITH_PARENT: "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_LIMIT,
            # Ctrl-C reaches the foreground group; children are ended in order by us instead
            start_new_session=True,
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The newest lines of its log, at most five."""
        return tuple(self._last)

    async def wait(self) -> int:
        return await self._process.wait()

    def explain_end(self) -> str:
        """Why the process ended: its own last error line, else its status."""
        errors = [line for line in self.last_lines if line.startswith("voicebus:")]
        return errors[-1].removeprefix("voicebus: ") if errors else f"it ended with status {self._process.returncode}"

    async def until_ready(self, ops_port: int, *, timeout_s: float) -> None:
        """Wait until `/readyz` says so.

        Raises:
            ChildError: the process ended, or was not ready in time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not await asyncio.to_thread(is_ready, ops_port):
            if not self.running:
                await asyncio.wait({self._pump}, timeout=1)
                raise ChildError(f"{self.name}: {self.explain_end()}")
            if asyncio.get_running_loop().time() > deadline:
                raise ChildError(f"{self.name}: not ready after {timeout_s:g} s (ops port {ops_port})")
            await asyncio.sleep(0.02)
        self.ready_after_s = self.ready_after_s or time.monotonic() - self._started

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not end."""
        if self.running:
            self._process.terminate()
            try:
                async with asyncio.timeout(_KILL_AFTER_S):
                    await self._process.wait()
            except TimeoutError:
                sys.stderr.write(f"{self.name}: does not end; killed\n")
                self._process.kill()
                await self._process.wait()
        await asyncio.wait({self._pump}, timeout=1)
        self._pump.cancel()

    async def _read(self) -> None:
        output = self._process.stdout
        while output is not None:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit: dropped, a log line is not worth a crash
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            sys.stderr.write(f"{self.name:<16} | {text}\n")


def is_ready(ops_port: int) -> bool:
    """Whether the service behind this ops port is ready. Blocks for up to a second."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Ports:
    """Ports for children. Those that were chosen freely are kept from everybody else on this machine until `close`.

    They stay bound here without listening, which leaves them to a server that sets SO_REUSEADDR, as ours and Redis do,
    and to nobody who asks the system for any free port.
    """

    def __init__(self) -> None:
        self._kept: list[socket.socket] = []

    def take(self, port: int, *, what: str, option: str) -> int:
        """A port for a child: `port` itself when it is free, any free one for 0.

        Raises:
            SettingsError: `port` is in use.
        """
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            probe.close()
            raise SettingsError(
                f"{option}: port {port} for the {what} cannot be opened ({error.strerror}); "
                f"stop what uses it, or give another port (0 takes a free one)"
            ) from error
        taken: int = probe.getsockname()[1]
        if port == 0:
            self._kept.append(probe)
        else:
            probe.close()
        return taken

    def close(self) -> None:
        for kept in self._kept:
            kept.close()


def service_arguments(command: str, *arguments: str) -> list[str]:
    """The command line of one of our own services, in this very interpreter."""
    return [sys.executable, "-m", "voicebus_services.cli", command, *arguments]


def bound_to_parent(program: str, *arguments: str) -> list[str]:
    """The command line of a program that is not ours, ended by the kernel when the parent dies."""
    bind_and_become = "import sys,os,ctypes; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-S", "-c", bind_and_become, program, *arguments]
