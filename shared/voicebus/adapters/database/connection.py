"""Connections to the transcript database: how they are opened, begun, taken off the event loop, and how they fail.

Both databases are driven by synchronous drivers in threads: one store, one migration path, and nothing that blocks
the event loop.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, inspect, text

from voicebus.adapters.database.address import POSTGRESQL, UnknownOptionError, parsed, place
from voicebus.adapters.database.answering import keep_answering, limit_statements
from voicebus.adapters.database.schema import REVISION
from voicebus.errors import ContractError, SettingsError, StoreError

SETTING: Final = "VOICEBUS_DATABASE_URL"
CONNECTIONS: Final = 6
"""Connections of one process: one writes, one is for the health probe, the others read."""

_CONNECT_TIMEOUT_S: Final = 5
_STATEMENT_TIMEOUT_MS: Final = 30_000
_SQLITE_BUSY_TIMEOUT_MS: Final = 10_000
# How many steps of its virtual machine SQLite takes between two looks at the clock: well under a millisecond.
_SQLITE_STEPS: Final = 1_000
_GIVEN_UP: Final = ("interrupted", "canceling statement due to statement timeout")
_WRITES: Final = "voicebus_writes"

T = TypeVar("T")


class SearchTooLongError(StoreError):
    """A search took longer than it may. Its sentence says what to do, and is for whoever searched."""


def open_engine(url: str) -> tuple[Engine, str]:
    """An engine (which connects when first used), and the database's name for sentences, without its credentials.

    Raises:
        SettingsError: the address is not one of a supported database.
    """
    try:
        read = parsed(url)
        engine = _open_sqlite(read) if read.get_backend_name() == "sqlite" else _open_postgresql(read)
    except UnknownOptionError as error:
        raise SettingsError(
            f"{SETTING}: its option {str(error)!r} is not one of libpq's (sslmode, sslrootcert, channel_binding,"
            " options, target_session_attrs, application_name and the like are); leave it out"
        ) from None
    except (exc.ArgumentError, exc.NoSuchModuleError, ValueError, TypeError):
        # The parser's own text may quote a piece of the password.
        raise SettingsError(
            f"{SETTING}: it is not a database address; sqlite:///PATH and postgresql://USER:PASSWORD@HOST/NAME"
            " are allowed (write special characters in a password as %XX)"
        ) from None
    return engine, place(read)


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ValueError("a database in memory is not shared by connections")
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # `begin` below decides how a transaction starts
        for pragma in (
            f"busy_timeout = {_SQLITE_BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",  # readers and the writer do not wait for each other
            "synchronous = FULL",  # what was acknowledged survives a power cut
            "foreign_keys = ON",
            "secure_delete = ON",  # what is erased is overwritten, too
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later cannot wait for another writer: SQLite fails it at once.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _open_postgresql(url: URL) -> Engine:
    if url.drivername != POSTGRESQL:
        raise ValueError("another driver")
    given = " ".join(url.normalized_query.get("options", ()))
    limited = "statement_timeout" not in given  # whoever gives another limit, or none, means it
    defaults: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} {given}".strip() if limited else given,
        "application_name": "voicebus",
        # Else a server that converts nothing (SQL_ASCII) has bytes for text.
        "client_encoding": "utf8",
        # A server that vanished without a word (a lost node, a fail-over) is given up within about 20 s, not 15 min;
        # one that stands still see `answering.py`.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 20_000,
    }
    arguments = {name: value for name, value in defaults.items() if name == "options" or name not in url.query}
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True, connect_args=arguments)
    keep_answering(engine, _STATEMENT_TIMEOUT_MS / 1000 if limited else math.inf)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes; committed at the end of the block, rolled back on an error."""
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads."""
    with engine.connect() as connection:
        yield connection


@contextmanager
def searching(engine: Engine, seconds: float) -> Iterator[Connection]:
    """One transaction that only reads, each statement of it for at most `seconds`.

    Raises:
        SearchTooLongError: a statement took longer and was given up.
    """
    with reading(engine) as connection:
        driver: Any = connection.connection.driver_connection
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:
            due = time.monotonic() + seconds
            driver.set_progress_handler(lambda: time.monotonic() > due, _SQLITE_STEPS)
        else:
            limit_statements(connection, seconds)
        try:
            yield connection
        except exc.OperationalError as error:
            if not _first_line(error).startswith(_GIVEN_UP):
                raise
            raise SearchTooLongError(
                f"the search took longer than {seconds:g} s; narrow it down by agent, from or to"
            ) from error
        finally:
            if sqlite:
                driver.set_progress_handler(None, 0)


def purge(engine: Engine) -> bool:
    """Have SQLite rewrite what still holds pieces of deleted rows: its index of words, and its log of writes.

    False where somebody reads at this moment, so that the log stays until later. PostgreSQL does that by itself, when
    it vacuums and when its log is recycled.
    """
    if engine.dialect.name != "sqlite":
        return True
    with writing(engine) as connection:
        connection.exec_driver_sql("INSERT INTO item_words (item_words) VALUES ('optimize')")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        return not busy


@contextmanager
def mapped_errors(where: str) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Raises:
        ContractError: the database refuses these values, and will again.
        StoreError: anything else, such as a database that is away; trying again may work.
    """
    try:
        yield
    except (exc.DataError, exc.IntegrityError, OverflowError) as error:
        raise ContractError(f"the database refused it: {_first_line(error)}", reason="rejected_by_database") from error
    except exc.SQLAlchemyError as error:
        raise StoreError(f"the database {where} failed: {_first_line(error)} ({SETTING})") from error


def _first_line(error: Exception) -> str:
    # The driver's own first line: no statement, no parameters, no hints over several lines.
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].strip()


def current_revision(connection: Connection) -> str | None:
    """The migration that this database is at; None before the first."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def compatible_since(connection: Connection) -> str | None:
    """The oldest migration whose release may use this database (migration 0006); None where it does not say."""
    if not inspect(connection).has_table("compatibility"):
        return None
    return connection.execute(text("SELECT since FROM compatibility")).scalar()


def require_migrated(engine: Engine, where: str) -> None:
    """Make sure that this release can use the database: it is at its schema, or at a newer one that lets it.

    Raises:
        StoreError: it is not, or cannot be reached. The sentence names the command that helps.
    """
    path = engine.url.database
    # SQLite would create the file that is not there.
    if engine.dialect.name == "sqlite" and not Path(path or "").exists():
        found, since = None, None
    else:
        with mapped_errors(where), engine.connect() as connection:
            found, since = current_revision(connection), compatible_since(connection)
    if found is None:
        raise StoreError(f"the database {where} is not migrated; run `voicebus migrate` ({SETTING})")
    # Migrations are numbered with four digits.
    if found < REVISION:
        raise StoreError(
            f"the database {where} is at migration {found}, this release needs {REVISION};"
            f" run `voicebus migrate` of this release ({SETTING})"
        )
    if not serves(found, since):
        raise StoreError(newer_alone(where, found, since))


def require_unicode(connection: Connection, where: str) -> None:
    """Make sure that any text can be stored there. SQLite always can.

    Raises:
        StoreError: it cannot; the sentence says how such a database is made.
    """
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise StoreError(
            f"the database {where} has the encoding {encoding}, in which not every text can be stored; make one with"
            f" CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' ({SETTING})"
        )


def newer_alone(where: str, found: str, since: str | None) -> str:
    """What is said of a database at migration `found` that this release may not use."""
    return (
        f"the database {where} is at migration {found}, which serves releases from migration {since or found} on;"
        f" this one is of {REVISION}: start a newer release ({SETTING})"
    )


def serves(found: str, since: str | None) -> bool:
    """Whether this release may use a database at migration `found` that serves releases from `since` on."""
    return found == REVISION or (since is not None and found > REVISION >= since)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own.

    A daemon thread instead of a pool's: a database that hangs must not keep the process from exiting. Cancelling the
    caller leaves the work running; its outcome is then unknown, which every write here allows for.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - carried over to the caller, whatever it is
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, name="database", daemon=True).start()
    return await future
