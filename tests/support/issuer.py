"""An identity provider: keys that it publishes over real HTTP (JWKS), and the tokens that it signs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example"
AUDIENCE = "voicebus"


class Issuer:
    """Publishes the keys in `published` at `url`; with `broken` set it answers 500. `asked` counts the readings."""

    def __init__(self) -> None:
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._private: dict[str, Any] = {
            "RS256": self._rsa,
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        self.published = ["RS256", "ES256", "EdDSA"]
        self.broken = False
        self.asked = 0
        self.url = ""

    def jwks(self) -> dict[str, Any]:
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        return {
            "keys": [
                json.loads(kinds[name].to_jwk(self._private[name].public_key()))
                | {"kid": name, "alg": name, "use": "sig"}
                for name in self.published
            ]
        }

    def public_pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        pem: bytes = self._rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem

    def token(self, *, algorithm: str = "RS256", kid: str | None = None, lives_s: float = 300, **claims: Any) -> str:
        """A token for tenant `acme`; claims of None are left out."""
        given = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "someone", "tenant": "acme", "exp": time.time() + lives_s,
        } | claims  # fmt: skip
        present = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(present, self._private[algorithm], algorithm, headers={"kid": kid or algorithm})


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            body = json.dumps(issuer.jwks()).encode()
            self.send_response(500 if issuer.broken else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
