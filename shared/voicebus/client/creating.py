"""Creating a session over HTTP, for a client that brings a context or a history."""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final

from voicebus.client.address import creating_address
from voicebus.errors import RemoteError, UserError
from voicebus.utf8 import sendable

# A gateway answers behind the dialling of its model, which takes 10 s by default where an address swallows everything.
_TIMEOUT_S: Final = 30.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: the credentials are for this address alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


async def create_session(
    url: str, wanted: Mapping[str, Any], *, headers: Mapping[str, str], tls: ssl.SSLContext | None = None
) -> tuple[str, str]:
    """`POST /v1/sessions` at the gateway of `url`; returns the session's id and token.

    Raises:
        UserError: `url` is no gateway's address, or what is wanted is no JSON.
        RemoteError: the gateway cannot be reached, or refused.
    """
    address = creating_address(url)
    try:
        body = json.dumps(sendable(wanted)).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"context and history must be JSON ({error})") from error
    # The scheme is http or https: `creating_address` gives no other.
    request = urllib.request.Request(  # noqa: S310
        address, body, {**headers, "Content-Type": "application/json"}, method="POST"
    )
    # In a thread, which a cancelled caller leaves behind for `_TIMEOUT_S` at most.
    made = await asyncio.to_thread(_post, request, tls)
    return str(made["id"]), str(made["token"])


def _post(request: urllib.request.Request, tls: ssl.SSLContext | None) -> Any:
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:500]
        raise RemoteError(f"{request.full_url} refused with HTTP {error.code} {_detail(said)}".rstrip()) from error
    except (OSError, HTTPException, ValueError) as error:
        raise RemoteError(f"no gateway answers at {request.full_url} ({error})") from error


def _detail(said: str) -> str:
    try:
        return str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        return said
