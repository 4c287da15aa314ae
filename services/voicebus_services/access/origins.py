"""Which pages may use a port from a browser: an allow-list of origins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

# What pages may read of an answer beside its body and its type: the call, when to come again, and parts of recordings.
_EXPOSED: Final = ("Accept-Ranges", "Content-Range", "ETag", "Idempotency-Replayed", "Location", "Retry-After")


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
                allow_methods=["GET", "HEAD", "POST", "DELETE"],
                # Clients bring headers of their own (`X-OpenAI-Agents-SDK`, `X-Stainless-…`), and none lets anybody in
                # who has no credential.
                allow_headers=["*"],
                expose_headers=list(_EXPOSED),
                max_age=600,
            )
