"""Addresses of Redis as text: what they may look like, and what is put into one that was kept apart from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

SCHEMES: Final = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix")
"""With `rediss` every connection is TLS, those to the sentinels as well."""

# redis-py's own names, as in the query of its addresses, and one of ours.
CA: Final = "ssl_ca_certs"
SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105 - a name


class OptionError(ValueError):
    """Its text names the option, and never what was given."""


def _verified(value: str) -> str:
    # Other programs' addresses have Python's own names.
    mode = value.lower().removeprefix("cert_")
    if mode not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return mode


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("true or false")
    return value.lower() in ("true", "yes", "1")


def _number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError("a whole number")
    return int(value)


_KEY_PASSWORD: Final = "ssl_password"  # noqa: S105 - a name
_TLS: Final[Mapping[str, Callable[[str], Any]]] = {
    CA: str, "ssl_certfile": str, "ssl_keyfile": str, _KEY_PASSWORD: str,
    "ssl_cert_reqs": _verified, "ssl_check_hostname": _truth,
}  # fmt: skip
_SINGLE: Final[Mapping[str, Callable[[str], Any]]] = {
    "db": _number, "username": str, "password": str, "client_name": str, "health_check_interval": _number,
}  # fmt: skip


def options_of(scheme: str, query: str) -> dict[str, Any]:
    """What the query of an address says, as arguments for redis-py. Timeouts are the services' own, so none of those.

    Raises:
        OptionError: an option is not known for this scheme, or has no such value.
        ValueError: it is no query.
    """
    known = dict(_TLS) if scheme.startswith("rediss") else {}
    if scheme.endswith("+cluster"):
        known.pop(_KEY_PASSWORD, None)  # redis-py has none for a cluster
    elif scheme.endswith("+sentinel"):
        known[SENTINEL_PASSWORD] = str
    else:
        known |= _SINGLE
    options = {}
    for name, value in parse_qsl(query, strict_parsing=True) if query else ():
        if name not in known:
            if "@" in query:  # a piece of a password might be taken for a name
                raise ValueError("no query")
            no_tls = name in _TLS and not scheme.startswith("rediss")
            tls = " (TLS is an address that begins with rediss)" if no_tls else ""
            raise OptionError(f"the option {name!r} is not known there{tls}; {', '.join(known) or 'none'} may be given")
        try:
            options[name] = known[name](value)
        except ValueError as error:
            raise OptionError(f"the option {name!r} may be {error}") from None
    return options


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
