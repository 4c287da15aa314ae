"""What a client verifies a gateway by, where that is not what its machine trusts."""

import ssl
from pathlib import Path

from voicebus.errors import UsageError


def trusting(ca_file: str | Path | None, url: str, *, option: str = "ca_file") -> ssl.SSLContext | None:
    """What verifies the gateway at `url` by the authorities of this PEM file alone.

    None: by those that this machine trusts (or that the variable SSL_CERT_FILE names).

    Raises:
        UsageError: the file cannot be read or holds no certificate, or `url` is one without TLS. It names `option`.
    """
    if ca_file is None:
        return None
    if not url.startswith(("https:", "wss:")):
        raise UsageError(f"{option}: {url!r} is an address without TLS; give https://HOST:PORT or wss://HOST:PORT")
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of the file, and of TLS
        raise UsageError(
            f"{option}: {str(ca_file)!r} is no PEM file of certificates that can be read ({error.strerror or error})"
        ) from error
