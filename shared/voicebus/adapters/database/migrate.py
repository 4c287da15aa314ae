"""Bringing a database to the schema of this release: what `voicebus migrate` runs. Services never migrate."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import text

from voicebus.adapters.database.connection import (
    compatible_since,
    current_revision,
    mapped_errors,
    newer_alone,
    open_engine,
    require_unicode,
    serves,
    writing,
)
from voicebus.adapters.database.schema import REVISION
from voicebus.errors import StoreError, UsageError

_FOLDER: Final = Path(__file__).parent / "migrations"
# Two migrations at once (a job that was restarted) take turns; any number does, if it is always the same.
_ADVISORY_LOCK: Final = 8_613_402_277


def upgrade(url: str, *, revision: str = "head") -> str:
    """Migrate up to `revision`; returns the revision the database is at now. Running it again changes nothing, nor does
    it where a newer release has migrated the database and this one can use it.

    Raises:
        SettingsError: the address is not one.
        StoreError: the database cannot be reached, refuses, or is newer than this release.
    """
    newer = None if revision != "head" else _newer(url)
    return newer or _run(url, command.upgrade, revision)


def downgrade(url: str, *, revision: str) -> str:
    """Migrate down to `revision` (`base` removes everything, data included).

    Raises:
        SettingsError: the address is not one.
        StoreError: the database cannot be reached or refuses.
    """
    return _run(url, command.downgrade, revision)


def move(url: str, *, revision: str, down: bool) -> str:
    """Migrate up or, where `down` allows it, down to `revision`: a number, `head`, or `base` for nothing at all.

    Raises:
        SettingsError: the address is not one.
        UsageError: there is no such migration, or it is below the database's and `down` was not given.
        StoreError: the database cannot be reached, refuses, or is newer than this release.
    """
    known = ["base", *sorted(path.name[:4] for path in (_FOLDER / "versions").glob("[0-9]*.py"))]
    if revision == "head":
        return upgrade(url)
    if revision not in known:
        raise UsageError(f"--to: {revision!r} was read; {', '.join(known)} or head is allowed")
    found = _found(url)[0] or "base"
    if found not in known:
        raise StoreError(
            f"the database {open_engine(url)[1]} is at migration {found}, which this release does not know:"
            " go down by the release that made it"
        )
    if known.index(revision) < known.index(found):
        if not down:
            raise UsageError(
                f"--to: the database is at {found}, and going down to {revision} removes what later migrations added,"
                " data included; give --yes to do so"
            )
        return downgrade(url, revision=revision)
    return upgrade(url, revision=revision)


def _newer(url: str) -> str | None:
    """The revision of a database that a newer release has migrated, and that this one can use.

    Raises:
        StoreError: a newer release has migrated it, and this one cannot use it.
    """
    found, since = _found(url)
    if found is None or found <= REVISION:
        return None
    if not serves(found, since):
        raise StoreError(newer_alone(open_engine(url)[1], found, since))
    return found


def _found(url: str) -> tuple[str | None, str | None]:
    """The database's revision, and the oldest whose release may use it."""
    engine, where = open_engine(url)
    try:
        if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
            return None, None  # it would be made
        with mapped_errors(where), engine.connect() as connection:
            return current_revision(connection), compatible_since(connection)
    finally:
        engine.dispose()


def _run(url: str, step: Callable[[Config, str], None], revision: str) -> str:
    engine, where = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    try:
        with mapped_errors(where), writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
            if current_revision(connection) is None:
                require_unicode(connection, where)
            config.attributes["connection"] = connection
            step(config, revision)
            return current_revision(connection) or "base"
    except CommandError as error:
        raise StoreError(f"the database {where} cannot be migrated: {error}") from error
    finally:
        engine.dispose()
