"""Servers of S3's protocol: a real one where `moto_server` is installed, and ones that are in trouble."""

import asyncio
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path

import pytest

from support.servers import free_port
from support.waiting import wait_until


class Bucket(Enum):
    """What is the matter with a bucket, as its server answers."""

    MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 40\r\n\r\n<Error><Code>NoSuchBucket</Code></Error>"
    FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\n<Error><Code>AccessDenied</Code></Error>"
    BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"
    HANGING_UP = b""
    SILENT = None


def address(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Have buckets looked for at this port."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "REGION": "us-east-1"}
    for name, value in {**given, "ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@asynccontextmanager
async def bucket_in_trouble(kind: Bucket, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """A server all of whose buckets are in this trouble; gives the first lines of the requests that came so far."""
    asked: list[bytes] = []
    over = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                asked.append(head.partition(b"\r\n")[0])
                size = head.partition(b"content-length: ")[2].partition(b"\r")[0]
                await reader.readexactly(int(size or 0))
                if kind.value is None:
                    await over.wait()
                if not kind.value:
                    return
                writer.write(kind.value)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer), name="bucket")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    address(monkeypatch, server.sockets[0].getsockname()[1])
    try:
        yield asked
    finally:
        over.set()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def real_bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """An empty bucket of a real server (`moto_server` on the path, or named by MOTO_SERVER); skips without one."""
    beside = Path(sys.executable).with_name("moto_server")
    program = os.environ.get("MOTO_SERVER") or shutil.which("moto_server") or (beside.exists() and str(beside))
    if not program:
        pytest.skip("no S3 server: pip install 'moto[server]'")
    port = free_port()
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address(monkeypatch, port)

    def made() -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/calls", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except OSError:
            return False

    try:
        await wait_until(lambda: asyncio.to_thread(made), description="the bucket", timeout=60, interval=0.1)
        yield "s3://calls/recordings"
    finally:
        process.kill()
        process.wait()
