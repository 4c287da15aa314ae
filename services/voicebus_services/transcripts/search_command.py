"""`voicebus transcripts search`: conversations by their words, and by what else is known of them."""

import re
from typing import Annotated, Final

import typer

from voicebus.adapters.database.transcripts import ItemType, Role, Status, TranscriptSummary
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services.paging import CURSOR_PATTERN, cursor_of, place_of
from voicebus_services.transcript_archiver.forms import text_line
from voicebus_services.transcripts.options import (
    Agent,
    AllTenants,
    AsJson,
    DatabaseUrl,
    From,
    Tenant,
    To,
    archive,
    moment,
)

_PAGE: Final = 200
_LINES_SHOWN: Final = 5
_MOST_CHARS: Final = 200

Text = Annotated[
    str | None,
    typer.Argument(
        metavar="WORDS",
        help='Words that are all in one line, or in a tool\'s arguments and output; "two words" follow each other,'
        " wor* begins like that. All transcripts if not given.",
    ),
]
OfStatus = Annotated[Status | None, typer.Option(envvar="VOICEBUS_STATUS", help="Only those of this status.")]
OfRole = Annotated[Role | None, typer.Option(envvar="VOICEBUS_ROLE", help="Only lines that this one said.")]
OfType = Annotated[ItemType | None, typer.Option("--type", envvar="VOICEBUS_TYPE", help="Only lines of this type.")]
Limit = Annotated[int, typer.Option(envvar="VOICEBUS_LIMIT", min=1, help="The newest so many.")]
Cursor = Annotated[str | None, typer.Option(envvar="VOICEBUS_CURSOR", help="Where the search before left off.")]


def search(
    text: Text = None,
    agent: Agent = None,
    start: From = None,
    end: To = None,
    status: OfStatus = None,
    role: OfRole = None,
    kind: OfType = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    tenant: Tenant = LOCAL_TENANT,
    all_tenants: AllTenants = False,
    database_url: DatabaseUrl = None,
    json_lines: AsJson = False,
) -> None:
    """Find transcripts, newest first.

    Each with the lines for which it was found.

    Exit status 0 also where nothing is found.
    """
    place = _place(cursor)
    if text is not None and not 0 < len(text) <= _MOST_CHARS:
        raise UsageError(f"WORDS: {len(text)} characters were read; 1 to {_MOST_CHARS} are allowed")
    begun, before = moment(start, "--from"), moment(end, "--to")

    async def work() -> None:
        async with archive(database_url) as store:
            from voicebus.adapters.database.finding import Filter, Position

            wanted = Filter(
                None if all_tenants else tenant,
                agent=agent,
                start=begun,
                end=before,
                text=text,
                status=status,
                role=role,
                type=kind,
            )
            shown, after = 0, None if place is None else Position(*place)
            while shown < limit:
                found, after = await store.find(wanted, limit=min(_PAGE, limit - shown), after=after)
                lines = {} if json_lines else await store.matching(wanted, [one.session for one in found])
                for one in found:
                    if json_lines:
                        typer.echo(one.model_dump_json())
                        continue
                    typer.echo(_heading(one))
                    of_one = lines.get(one.session, ())
                    for item in of_one[:_LINES_SHOWN]:
                        typer.echo(f"  {text_line(item, unheard=True)}")
                    if len(of_one) > _LINES_SHOWN:
                        typer.echo(f"  … and {len(of_one) - _LINES_SHOWN} more")
                shown += len(found)
                if after is None:
                    break
            if not shown:
                typer.echo("voicebus: no such transcript", err=True)
            if after is not None:
                following = cursor_of(after.started_at, after.session)
                typer.echo(f"voicebus: there are more; --cursor {following} goes on", err=True)

    run(work())


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    if re.fullmatch(CURSOR_PATTERN, cursor) is None:
        raise UsageError(f"--cursor: {cursor!r} was read; what an earlier search said at its end is allowed")
    return place_of(cursor)


def _heading(one: TranscriptSummary) -> str:
    began = one.started_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    lines = "1 line" if one.items == 1 else f"{one.items} lines"
    return f"{one.session}  {one.status}  agent {one.agent or 'unknown'}  since {began}  {lines}"
