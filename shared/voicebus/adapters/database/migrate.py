"""Bringing a database to the schema of this release: what `voicebus migrate` runs. Services never migrate."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import text

from voicebus.adapters.database.connection import current_revision, mapped_errors, open_engine, writing
from voicebus.errors import StoreError

_FOLDER: Final = Path(__file__).parent / "migrations"
# Two migrations at once (a job that was restarted) take turns; any number does, if it is always the same.
_ADVISORY_LOCK: Final = 8_613_402_277


def upgrade(url: str, *, revision: str = "head") -> str:
    """Migrate up to `revision`; returns the revision the database is at now. Running it again changes nothing.

    Raises:
        SettingsError: the address is not one.
        StoreError: the database cannot be reached, refuses, or is newer than this release.
    """
    return _run(url, command.upgrade, revision)


def downgrade(url: str, *, revision: str) -> str:
    """Migrate down to `revision` (`base` removes everything, data included).

    Raises:
        SettingsError: the address is not one.
        StoreError: the database cannot be reached or refuses.
    """
    return _run(url, command.downgrade, revision)


def _run(url: str, step: Callable[[Config, str], None], revision: str) -> str:
    engine, where = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    try:
        with mapped_errors(where), writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
            config.attributes["connection"] = connection
            step(config, revision)
            return current_revision(connection) or "base"
    except CommandError as error:
        raise StoreError(f"the database {where} cannot be migrated: {error}") from error
    finally:
        engine.dispose()
