"""The rule that every Redis key has a TTL or a trim rule, as a check that a fixture runs after every Redis test."""

import re

import redis

# Kept without a TTL: two hashes of the whole installation, and the streams that their readers trim.
_KEPT = re.compile(r"(config|registry:tools|(events|tools|guardrails|dead):\{[^{}]+\})")


def keys_without_end(client: "redis.Redis", prefix: str) -> list[str]:
    """Keys of this prefix that nothing would ever remove; empty is right."""
    lasting = []
    for raw in client.scan_iter(match=f"{prefix}:*", count=1000):
        key = raw.decode()
        # -1 is "no TTL"; -2 is a key that went away meanwhile.
        if client.ttl(raw) == -1 and not _KEPT.fullmatch(key.removeprefix(f"{prefix}:")):
            lasting.append(key)
    return sorted(lasting)


def remove_keys(client: "redis.Redis", prefix: str) -> None:
    for raw in client.scan_iter(match=f"{prefix}:*", count=1000):
        client.delete(raw)
