"""Addresses of databases as text: read as SQLAlchemy does, and as those who hand databases out write them.

Managed databases and operators' secrets name no driver (`postgresql://`, `postgres://`), and may name several hosts:
that is libpq's form, and means the same here.
"""

import re
from typing import Final

from psycopg import pq
from sqlalchemy import URL, make_url

POSTGRESQL: Final = "postgresql+psycopg"
_PLAIN: Final = frozenset({"postgresql", "postgres"})
_OPTIONS: Final = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
_SEVERAL_HOSTS: Final = re.compile(r"(?P<user>[^/?]*@)?(?P<hosts>[^/?@]+,[^/?@]+)/(?P<name>[^?]*)(?:\?(?P<query>.*))?")


def parsed(url: str) -> URL:
    """The address, with the driver that is used.

    Raises:
        UnknownOptionError: libpq knows no option of its query.
        ValueError, TypeError, ArgumentError: it is malformed. Their text may quote a piece of the password.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in _PLAIN or scheme == POSTGRESQL:
        url = f"{POSTGRESQL}{separator}{_one_authority(rest)}"
    read = make_url(url)
    if read.drivername == POSTGRESQL and (unknown := sorted(read.query.keys() - _OPTIONS)):
        raise UnknownOptionError(unknown[0])
    return read


class UnknownOptionError(ValueError):
    """Its text is the option's name."""


def _one_authority(rest: str) -> str:
    """Several hosts with their ports, which libpq has before the name, are options for SQLAlchemy."""
    several = _SEVERAL_HOSTS.fullmatch(rest)
    if several is None:
        return rest
    hosts = "&".join(f"host={host}" for host in several["hosts"].split(","))
    options = "&".join(part for part in (hosts, several["query"]) if part)
    return f"{several['user'] or ''}/{several['name']}?{options}"


def place(url: URL) -> str:
    """Where it is, for sentences, without who connects."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.query.get("host", url.host or "localhost")
    if not isinstance(host, str):
        return f"{','.join(host)}/{url.database or ''}"
    return f"{host}:{url.port or url.query.get('port', 5432)}/{url.database or ''}"
