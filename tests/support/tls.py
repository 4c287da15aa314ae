"""A certificate authority for tests, and the files that a server is given."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates for this machine; `file` is what clients trust."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str = "server", *, until: datetime | None = None) -> Pair:
        """A pair for localhost, in files of this name; those that are there are replaced as secrets are mounted."""
        issued = self._authority.issue_cert("localhost", "127.0.0.1", common_name=name, not_after=until)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for path, content in ((pair.certificate, chain), (pair.key, issued.private_key_pem.bytes())):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)
        return pair

    def trusting(self) -> ssl.SSLContext:
        """What a client that trusts this authority connects with."""
        return ssl.create_default_context(cafile=str(self.file))
