"""A client of redis-py for an address; nothing is dialled before its first command."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from voicebus.adapters.redis.address import SCHEMES, SENTINEL_PASSWORD, options_of
from voicebus.adapters.redis.clustered import StreamCluster

CONNECT_TIMEOUT_S: Final = 5.0

Client = Any  # redis.asyncio.Redis or RedisCluster: the same commands, no common base


def open_client(url: str) -> tuple[Client, Sequence[Client]]:
    """A client for this address, and the clients of the sentinels that it asks.

    Raises:
        OptionError: an option of its query is not known, or has no such value.
        ValueError: it is malformed.
    """
    common: dict[str, Any] = {
        # Foreign writers may send bytes that are no UTF-8: they must reach the dead letters, not break the reader.
        "decode_responses": True, "encoding_errors": "replace", "protocol": 2,
        "socket_timeout": None, "socket_connect_timeout": CONNECT_TIMEOUT_S, "retry": Retry(NoBackoff(), 0),
    }  # fmt: skip
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ValueError("no such scheme")
    rest, _, query = rest.partition("?")
    options = options_of(scheme, query)
    if scheme in ("redis", "rediss", "unix"):
        return aioredis.Redis.from_url(f"{scheme}://{rest}", **common, **options), ()
    sentinel_password = options.pop(SENTINEL_PASSWORD, None)
    tls: dict[str, Any] = {"ssl": True, **options} if scheme.startswith("rediss") else {}
    # urlsplit knows one host only, so the list is cut out before the path.
    hosts, _, path = rest.partition("/")
    credentials, _, hosts = hosts.rpartition("@")
    if credentials:
        user, _, password = credentials.partition(":")
        common |= {"username": unquote(user) or None, "password": unquote(password) or None}
    common |= tls
    nodes = [_host_and_port(host, 26379 if scheme.endswith("sentinel") else 6379) for host in hosts.split(",")]
    if scheme.endswith("+cluster"):
        # A slot that has moved is looked for where it is by now. Each fifth time, by default, redis-py closes all its
        # connections instead, with all that is under way on them.
        common["reinitialize_steps"] = 0
        return StreamCluster(startup_nodes=[ClusterNode(host, port) for host, port in nodes], **common), ()
    master, _, database = path.strip("/").partition("/")
    if not master:
        raise ValueError("the master's name is missing")
    common["db"] = int(database or 0)
    # Without its own retries, which take seconds: the next sentinel is the retry.
    quick = {"socket_timeout": None, "socket_connect_timeout": 1.0, "retry": Retry(NoBackoff(), 0), **tls}
    if sentinel_password:
        quick["password"] = sentinel_password
    sentinels: Any = Sentinel(nodes, sentinel_kwargs=quick)  # type: ignore[no-untyped-call]
    return sentinels.master_for(master, **common), sentinels.sentinels


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or default
