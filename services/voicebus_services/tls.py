"""The certificate of a public port: read, checked, and read again when its files change.

New connections get the pair that was last found whole; those that stand keep theirs. A pair that cannot be used or has
expired, or one that is being replaced while it is read, leaves the last one in place and is looked at again.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from voicebus.errors import SettingsError
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)

CERT_SETTING: Final = "VOICEBUS_TLS_CERT"
KEY_SETTING: Final = "VOICEBUS_TLS_KEY"
LOOK_AGAIN_S: Final = 5.0
"""How often the files are looked at. Polled, since mounted secrets change by links that notifications miss."""

_Seen = tuple[tuple[int, int, int, int], ...]


class Certificate:
    """A chain and its key, both PEM, as `context`: what a server begins a handshake with now.

    TLS 1.2 and later, with the ciphers of Python's own defaults; clients are not asked for certificates.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        """Read both.

        Raises:
            SettingsError: a file cannot be read or holds something else, or the two do not belong together.
        """
        self._chain = chain
        self._key = key
        self._seen = self._look()
        self.context: ssl.SSLContext = self._read()

    @classmethod
    def of(cls, chain: Path | None, key: Path | None) -> "Certificate | None":
        """The certificate of these settings; None where TLS is not asked for.

        Raises:
            SettingsError: as the constructor, or only one of the two is given.
        """
        if chain is None and key is None:
            return None
        if chain is None or key is None:
            given, missing = (CERT_SETTING, KEY_SETTING) if key is None else (KEY_SETTING, CERT_SETTING)
            raise SettingsError(f"{missing}: not given, but {given} is; TLS needs a certificate and its key")
        return cls(chain, key)

    async def follow(self, *, every_s: float = LOOK_AGAIN_S) -> None:
        """Read the files again whenever they have changed, until cancelled."""
        if (why := await asyncio.to_thread(self._expired)) is not None:  # it is the only one there is
            log.warning("clients refuse the TLS certificate", error=why)
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(self.look_again)

    def look_again(self) -> None:
        """Take the files' pair if they have changed and it is whole; blocks for as long as reading them takes."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            # Before it is read: what changes meanwhile is seen the next time.
            self._seen = seen
            context = self._read()
            if (why := self._expired()) is not None:
                raise SettingsError(why)  # noqa: TRY301 - told as all others that cannot be used
            self.context = context
        except SettingsError as error:
            log.warning("the new TLS certificate cannot be used, the last one stays", error=str(error))
        else:
            log.info("TLS certificate read again", certificate=str(self._chain))

    def _expired(self) -> str | None:
        """What is to be said of a certificate that no client takes any more; None of any other."""
        # Here, as what checks settings alone is installed without it.
        from cryptography import x509

        try:
            ended = x509.load_pem_x509_certificate(self._chain.read_bytes()).not_valid_after_utc
        except (OSError, ValueError):  # it is being replaced, or OpenSSL, which has read it, is less strict
            return None
        if ended > datetime.now(UTC):
            return None
        return f"{CERT_SETTING}: the certificate in {str(self._chain)!r} expired at {ended.isoformat()}; renew it"

    def _look(self) -> _Seen:
        try:
            found = [path.stat() for path in (self._chain, self._key)]
        except OSError:
            return ()  # reading them tells which one, and why
        # The time of its status, too: it may be read now, which was written as somebody else's.
        return tuple((each.st_ino, each.st_mtime_ns, each.st_ctime_ns, each.st_size) for each in found)

    def _read(self) -> ssl.SSLContext:
        _require(self._chain, CERT_SETTING, b"-----BEGIN CERTIFICATE-----", "certificate")
        _require(self._key, KEY_SETTING, b"PRIVATE KEY-----", "private key")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])

        def refuse_to_ask() -> NoReturn:
            raise SettingsError(f"{KEY_SETTING}: {str(self._key)!r} is encrypted; give the key without a passphrase")

        try:
            context.load_cert_chain(self._chain, self._key, password=refuse_to_ask)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"{str(self._key)!r} is not the key of the certificate in {str(self._chain)!r}"
                raise SettingsError(f"{KEY_SETTING}: {why}; give the two that belong together") from error
            raise SettingsError(
                f"{CERT_SETTING}: {str(self._chain)!r} with {KEY_SETTING} {str(self._key)!r} cannot be used"
                f" ({error.reason or error}); give PEM files"
            ) from error
        except OSError as error:  # replaced between the two looks
            raise SettingsError(f"{CERT_SETTING}: {str(self._chain)!r} cannot be read ({error.strerror})") from error
        return context


def _require(path: Path, setting: str, mark: bytes, what: str) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"{setting}: {str(path)!r} cannot be read ({error.strerror}); name a readable PEM file"
        ) from error
    if mark not in content:
        raise SettingsError(f"{setting}: {str(path)!r} holds no {what} in PEM form")


def trusting_certificate(certificate: Path) -> ssl.SSLContext:
    """Trusts who shows this very certificate, under whatever name: gateways are reached by the names of their pods."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # The first one of the file, which is the gateway's; those behind it would let in whoever they have signed.
    pem = certificate.read_text(encoding="ascii")
    end = "-----END CERTIFICATE-----"
    context.load_verify_locations(
        cadata=pem[pem.index("-----BEGIN CERTIFICATE-----") : pem.index(end) + len(end)] + "\n"
    )
    return context
