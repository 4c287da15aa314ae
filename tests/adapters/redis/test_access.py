"""Getting in: passwords kept apart from the address, and TLS, on a single server, a cluster and behind sentinels."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from support.servers import RedisServer
from support.tls import Authority
from support.topologies import bus_port
from support.waiting import wait_until
from voicebus.adapters.redis.address import with_access
from voicebus.adapters.redis.client import connect
from voicebus.errors import BusError

PASSWORD = "s/3c:r@t"
SENTINELS_PASSWORD = "watch%ers"


@asynccontextmanager
async def tls_front(authority: Authority, port: int, *, behind: int) -> AsyncIterator[None]:
    """TLS on `port` before a server that has none, as the Valkey of the tests."""
    pair = authority.issue()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", behind)
        with contextlib.suppress(OSError):
            await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield
    finally:
        server.close()


class Watcher(RedisServer):
    """A sentinel with a password of its own that says of `mymaster` that it is at `port`."""

    def __init__(self, port: int) -> None:
        super().__init__(password=SENTINELS_PASSWORD)
        self._config: Path = self.folder / "sentinel.conf"
        self._config.write_text(
            f"port {self.port}\nrequirepass {SENTINELS_PASSWORD}\nsentinel monitor mymaster 127.0.0.1 {port} 1\n"
        )

    def _command(self) -> list[str]:
        return [super()._command()[0], str(self._config), "--sentinel"]


@pytest.fixture(params=["single", "cluster", "sentinel"])
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, Authority]]:
    """The address of a Redis that wants TLS and a password, and who signed its certificate."""
    authority, port = Authority(tmp_path), bus_port()
    announced = ("--cluster-enabled", "yes", "--cluster-announce-port", str(port)) if request.param == "cluster" else ()
    with RedisServer(bus_port(), password=PASSWORD, arguments=announced) as server, Watcher(port) as watcher:
        async with tls_front(authority, port, behind=server.port):
            if request.param == "single":
                yield f"rediss://127.0.0.1:{port}/0", authority
            elif request.param == "cluster":
                with redis.Redis(port=server.port, password=PASSWORD) as client:
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                yield f"rediss+cluster://127.0.0.1:{port}", authority
            else:
                watching = bus_port()
                async with tls_front(authority, watching, behind=watcher.port):
                    yield f"rediss+sentinel://127.0.0.1:{watching}/mymaster", authority


async def test_a_password_and_trusted_certificates_given_apart_open_it(guarded: tuple[str, Authority]) -> None:
    url, authority = guarded
    full = with_access(
        url, password=PASSWORD, sentinel_password=SENTINELS_PASSWORD, tls_ca=authority.file
    )  # what the settings make of REDIS_URL, REDIS_PASSWORD, REDIS_SENTINEL_PASSWORD and REDIS_TLS_CA

    told: list[str] = []

    async def opened() -> bool:
        try:
            async with await connect(full) as bus:
                await bus.call("SET", "vb:x", "1")
                return bool(await bus.read_blocking("XREAD", "BLOCK", 1, "STREAMS", "vb:{1}", "$") in (None, {}, []))
        except BusError as error:
            told.append(str(error))
            return False

    await wait_until(opened, description="the servers to have found each other")
    assert not any("3c" in sentence for sentence in told)


async def test_an_address_that_asks_for_no_certificate_trusts_any(guarded: tuple[str, Authority]) -> None:
    url, _ = guarded
    full = with_access(f"{url}?ssl_cert_reqs=none", password=PASSWORD, sentinel_password=SENTINELS_PASSWORD)

    async def opened() -> bool:
        try:
            async with await connect(full) as bus:
                return bool(await bus.call("PING"))
        except BusError:
            return False

    await wait_until(opened, description="the servers to have found each other")


async def test_a_certificate_that_nobody_vouched_for_is_not_trusted(guarded: tuple[str, Authority]) -> None:
    url, _ = guarded
    with pytest.raises(BusError, match=r"CERTIFICATE_VERIFY_FAILED|certificate|No master found|cannot be reached"):
        await connect(with_access(url, password=PASSWORD, sentinel_password=SENTINELS_PASSWORD))


def test_certificates_to_trust_need_an_address_with_tls() -> None:
    with pytest.raises(ValueError, match="with TLS"):
        with_access("redis://host:1", tls_ca=Path("/ca"))


@pytest.mark.parametrize("url", ["rediss+sentinel://h:1/m", "rediss://h:1/0?x=1", "redis+cluster://a,b"])
def test_what_the_address_has_already_stays_as_it_is(url: str) -> None:
    """A service gives its address to a `ToolWorker`, which reads the same variables."""
    ca = Path("/ca") if url.startswith("rediss") else None
    once = with_access(url, username="u", password="p", sentinel_password="s", tls_ca=ca)
    assert with_access(once, username="other", password="other", sentinel_password="other", tls_ca=ca) == once


def test_an_address_keeps_its_own_query() -> None:
    assert with_access("rediss://h:1/0?health_check_interval=3", username="u", tls_ca=Path("/c")) == (
        "rediss://u:@h:1/0?health_check_interval=3&ssl_ca_certs=%2Fc"
    )
