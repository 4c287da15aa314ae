"""The monthly partitions of the large tables on PostgreSQL; nothing on SQLite.

`voicebus migrate` and running archivers make this month's and the next ones beforehand. A month that has no partition
of its own (an old session, or an archiver that may not create tables) lies in the default partition: nothing is ever
refused for want of one.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, text

from voicebus.adapters.database.schema import PARTITIONED

MONTHS_AHEAD: Final = 2

# Any number does, if it is always the same: two that make partitions at once take turns.
_ADVISORY_LOCK: Final = 8_613_402_278
# Making one waits for those who use the table, and whoever comes after waits behind it.
_LOCK_TIMEOUT_MS: Final = 2_000


def months_from(month: int, ahead: int = MONTHS_AHEAD) -> Iterator[int]:
    """A month (YYYYMM) and the `ahead` months after it."""
    year, number = divmod(month, 100)
    for index in range(number - 1, number + ahead):
        yield (year + index // 12) * 100 + index % 12 + 1


def create_partitions(connection: Connection, month: int) -> list[str]:
    """Make the missing partitions of a month and the next ones; returns those that were made.

    A month of which the default partition already has rows stays there.
    """
    if connection.dialect.name != "postgresql":
        return []
    made = []
    for table in PARTITIONED:
        for each in months_from(month):
            name = f"{table}_{each}"
            if _exists(connection, name):
                continue
            connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
            stays = text(f"SELECT EXISTS (SELECT FROM {table}_default WHERE month = :month)")  # noqa: S608 - no input
            if not _exists(connection, name) and not connection.execute(stays, {"month": each}).scalar():
                connection.execute(text(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES IN ({each})"))
                made.append(name)
    return made


def _exists(connection: Connection, name: str) -> bool:
    return connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None
