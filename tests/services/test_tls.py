"""The certificate of a public port: read, checked, and followed."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI

from support.tls import Authority, Pair
from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.http import serving
from voicebus_services.tls import Certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def served_by(port: int, authority: Authority) -> str:
    """The common name of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusting())
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    subject = x509.load_der_x509_certificate(shown).subject
    return str(subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def replace(pair: Pair, by: Pair) -> None:
    for old, new in ((pair.certificate, by.certificate), (pair.key, by.key)):
        shutil.copy(new, fresh := old.with_suffix(".fresh"))
        fresh.replace(old)


@asynccontextmanager
async def served(authority: Authority) -> AsyncIterator[tuple[Pair, Callable[[], Awaitable[str]]]]:
    """The files of a certificate of "first" that is served, and whose a new connection is shown once it looks again."""
    pair = authority.issue("first")
    certificate = Certificate(pair.certificate, pair.key)
    async with serving(FastAPI(), host="127.0.0.1", port=0, certificate=certificate) as server:

        async def shown() -> str:
            certificate.look_again()
            return await served_by(server.port, authority)

        yield pair, shown


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_new_connections_get_the_new_certificate_and_old_ones_stay(
    authority: Authority, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    pair = authority.issue("first")
    app = FastAPI()

    @app.get("/")
    def page() -> str:
        return "over TLS"

    async def main() -> None:
        certificate = Certificate(pair.certificate, pair.key)
        async with (
            serving(app, host="127.0.0.1", port=0, certificate=certificate) as server,
            httpx2.AsyncClient(
                base_url=f"https://localhost:{server.port}", verify=authority.trusting(), trust_env=False
            ) as client,
        ):
            assert (await client.get("/")).json() == "over TLS"
            assert await served_by(server.port, authority) == "first"
            replace(pair, authority.issue("second"))
            certificate.look_again()
            assert await served_by(server.port, authority) == "second"
            assert (await client.get("/")).json() == "over TLS"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_a_broken_new_pair_leaves_the_last_one_and_is_logged(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(authority) as (pair, shown):
        shutil.copy(authority.issue("other").key, pair.key)
        assert await shown() == "first"
        pair.key.unlink()
        assert await shown() == "first"
        replace(pair, authority.issue("second"))
        assert await shown() == "second"
    assert caplog.text.count("cannot be used, the last one stays") == 2
    assert "is not the key of the certificate" in caplog.text


async def test_a_new_pair_that_has_expired_leaves_the_last_one(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(authority) as (pair, shown):
        replace(pair, authority.issue("old", until=datetime(2020, 1, 1, tzinfo=UTC)))
        assert await shown() == "first"
        assert "expired at 2020-01-01T00:00:00+00:00; renew it" in caplog.text
        replace(pair, authority.issue("second"))
        assert await shown() == "second"


async def test_a_server_that_has_only_a_certificate_that_has_expired_says_so(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("old", until=datetime(2020, 1, 1, tzinfo=UTC))
    following = asyncio.create_task(Certificate(pair.certificate, pair.key).follow())
    try:
        await wait_until(lambda: "expired at 2020-01-01" in caplog.text, description="the warning")
    finally:
        following.cancel()


async def test_the_files_are_followed_while_they_are_served(authority: Authority) -> None:
    pair = authority.issue("first")
    certificate = Certificate(pair.certificate, pair.key)
    following = asyncio.create_task(certificate.follow(every_s=0.01))
    try:
        async with serving(FastAPI(), host="127.0.0.1", port=0, certificate=certificate) as server:
            replace(pair, authority.issue("second"))

            async def renewed() -> bool:
                return await served_by(server.port, authority) == "second"

            await wait_until(renewed, description="the new certificate")
    finally:
        following.cancel()


async def test_a_secret_that_is_replaced_as_kubernetes_does_is_read_again(authority: Authority, tmp_path: Path) -> None:
    folders = [tmp_path / "..1", tmp_path / "..2"]
    for folder, name in zip(folders, ("first", "second"), strict=True):
        folder.mkdir()
        issued = authority.issue(name)
        shutil.copy(issued.certificate, folder / "tls.crt")
        shutil.copy(issued.key, folder / "tls.key")
    data = tmp_path / "..data"
    data.symlink_to(folders[0])
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    certificate = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    async with serving(FastAPI(), host="127.0.0.1", port=0, certificate=certificate) as server:
        (tmp_path / "..next").symlink_to(folders[1])
        (tmp_path / "..next").replace(data)
        certificate.look_again()
        assert await served_by(server.port, authority) == "second"


async def test_old_versions_of_tls_and_plain_http_are_refused(authority: Authority) -> None:
    pair = authority.issue()
    certificate = Certificate(pair.certificate, pair.key)
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2
    async with serving(FastAPI(), host="127.0.0.1", port=0, certificate=certificate) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1" not in await reader.read()
        writer.close()


async def test_a_server_name_that_cannot_be_one_is_as_good_as_none(authority: Authority) -> None:
    pair = authority.issue()
    answers, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.trusting().wrap_bio(answers, hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    certificate = Certificate(pair.certificate, pair.key)
    async with serving(FastAPI(), host="127.0.0.1", port=0, certificate=certificate) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(hello.read().replace(b"localhost", b"local\xffost"))
        assert await reader.readexactly(1) == b"\x16", "a handshake, no alert"
        writer.close()


def encrypted(pair: Pair, path: Path) -> Path:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    path.write_bytes(key.private_bytes(*formats, locked))
    return path


def test_wrong_files_are_told_in_one_sentence_that_names_them(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("mine"), authority.issue("other")
    garbage = tmp_path / "garbage"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n")
    absent = tmp_path / "absent"
    locked = encrypted(pair, tmp_path / "locked")
    wrong: list[tuple[Path | None, Path | None, str]] = [
        (pair.certificate, None, "VOICEBUS_TLS_KEY: not given, but VOICEBUS_TLS_CERT is"),
        (None, pair.key, "VOICEBUS_TLS_CERT: not given, but VOICEBUS_TLS_KEY is"),
        (absent, pair.key, f"VOICEBUS_TLS_CERT: '{absent}' cannot be read"),
        (pair.certificate, absent, f"VOICEBUS_TLS_KEY: '{absent}' cannot be read"),
        (tmp_path, pair.key, f"VOICEBUS_TLS_CERT: '{tmp_path}' cannot be read"),
        (pair.key, pair.key, f"VOICEBUS_TLS_CERT: '{pair.key}' holds no certificate"),
        (pair.certificate, pair.certificate, f"VOICEBUS_TLS_KEY: '{pair.certificate}' holds no private key"),
        (garbage, pair.key, f"VOICEBUS_TLS_CERT: '{garbage}' with VOICEBUS_TLS_KEY '{pair.key}' cannot be used"),
        (pair.certificate, other.key, f"VOICEBUS_TLS_KEY: '{other.key}' is not the key of the certificate"),
        (pair.certificate, locked, f"VOICEBUS_TLS_KEY: '{locked}' is encrypted"),
    ]
    for certificate, key, sentence in wrong:
        with pytest.raises(SettingsError) as refused:
            Certificate.of(certificate, key)
        assert str(refused.value).startswith(sentence)
    assert Certificate.of(None, None) is None
