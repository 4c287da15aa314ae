"""The options that the commands of `voicebus transcripts` share, and the archive's database that they read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from voicebus.errors import UsageError
from voicebus_services.settings import DatabaseSettings, load

if TYPE_CHECKING:
    from voicebus.adapters.database.store import TranscriptStore

_MOMENT: Final = "2026-01-31, 2026-01-31T12:00:00Z, or 30m, 12h, 7d ago"
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MOST_DIGITS: Final = 5

DatabaseUrl = Annotated[
    str | None,
    typer.Option(envvar="VOICEBUS_DATABASE_URL", metavar="URL", help="The archiver's database.", show_default=False),
]
Tenant = Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose transcripts.")]
AllTenants = Annotated[bool, typer.Option("--all-tenants", envvar="VOICEBUS_ALL_TENANTS", help="Of every tenant.")]
Agent = Annotated[str | None, typer.Option(envvar="VOICEBUS_AGENT", help="Only those that began with this agent.")]
From = Annotated[
    str | None, typer.Option("--from", envvar="VOICEBUS_FROM", metavar="TIME", help=f"Begun then or later: {_MOMENT}.")
]
To = Annotated[str | None, typer.Option("--to", envvar="VOICEBUS_TO", metavar="TIME", help="Begun before.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print JSON lines.")]


def moment(text: str | None, option: str) -> datetime | None:
    """The time that an option says: a date or a time (UTC where it names no offset), or how long ago.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    count, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is not None and count.isdecimal() and len(count) <= _MOST_DIGITS:
        return datetime.now(UTC) - int(count) * unit
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option}: {text!r} was read; a time such as {_MOMENT} is allowed") from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


@asynccontextmanager
async def archive(database_url: str | None) -> AsyncIterator["TranscriptStore"]:
    """The archive's database, opened; `database_url` where the command line names one.

    Raises:
        UsageError: the packages for it are not installed.
        SettingsError: its address is none.
        StoreError: it cannot be reached, or is not migrated.
    """
    settings = load(DatabaseSettings, database_url=database_url)
    try:
        from voicebus.adapters.database.store import TranscriptStore
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing; install voicebus[archiver]") from error
    async with TranscriptStore(settings.database_url) as store:
        await store.check()
        yield store
