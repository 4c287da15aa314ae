"""Which pages may use a port from a browser: an allow-list of origins."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware


@dataclass(frozen=True, slots=True)
class Origins:
    """`allowed` of None: any page that has a credential, since none is ever sent by a browser of its own accord."""

    allowed: frozenset[str] | None = None

    def allows(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers may be served. Clients that are no browsers name no origin."""
        origin = headers.get("origin")
        if self.allowed is None or origin is None or origin in self.allowed:
            return True
        try:
            return urlsplit(origin).netloc == headers.get("host")
        except ValueError:
            return False

    def share(self, app: FastAPI) -> None:
        """Tell browsers that pages of these origins may read the answers of `app`."""
        if self.allowed:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=sorted(self.allowed),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
                expose_headers=["Location", "Retry-After"],
                max_age=600,
            )
