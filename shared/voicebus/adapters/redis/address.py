"""Addresses of Redis as text: what they may look like, and what is put into one that was kept apart from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
"""With `rediss` every connection is TLS, those to the sentinels as well."""

# redis-py's own names, as in the query of its addresses, and one of ours.
CA: Final = "ssl_ca_certs"
SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105 - a name
OPTIONS: Final = frozenset({CA, "ssl_certfile", "ssl_keyfile", SENTINEL_PASSWORD})


def with_access(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    sentinel_password: str | None = None,
    tls_ca: Path | None = None,
) -> str:
    """`url` with what was kept apart from it: who connects, and the certificates that are trusted.

    What the address says itself stays, so that nothing comes of asking twice.

    Raises:
        ValueError: certificates where there is no TLS.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    hosts, slash, path = rest.partition("/")
    if (username or password) and "@" not in hosts:
        hosts = f"{quote(username or '', safe='')}:{quote(password or '', safe='')}@{hosts}"
    added = []
    if tls_ca is not None:
        if not scheme.startswith("rediss"):
            raise ValueError(
                "an address with TLS (rediss://, rediss+sentinel://, rediss+cluster://) is allowed where certificates"
                " to trust are given"
            )
        if f"{CA}=" not in query:
            added.append((CA, str(tls_ca)))
    if sentinel_password and scheme.endswith("+sentinel") and f"{SENTINEL_PASSWORD}=" not in query:
        added.append((SENTINEL_PASSWORD, sentinel_password))
    joined = "&".join(part for part in (query, urlencode(added)) if part)
    return f"{scheme}://{hosts}{slash}{path}" + (f"?{joined}" if joined else "")


def address_of(url: str, settings: Mapping[str, Any]) -> str:
    """`with_access` for settings by their names: `redis_username`, `redis_password` and so on, absent ones left out.

    Raises:
        ValueError: as `with_access`.
    """
    password, sentinel = settings.get("redis_password"), settings.get("redis_sentinel_password")
    return with_access(
        url,
        username=settings.get("redis_username"),
        password=password.get_secret_value() if password is not None else None,
        sentinel_password=sentinel.get_secret_value() if sentinel is not None else None,
        tls_ca=settings.get("redis_tls_ca"),
    )
