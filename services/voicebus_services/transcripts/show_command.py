"""`voicebus transcripts show`: one conversation, in the forms of the HTTP interface."""

from typing import Annotated

import typer

from voicebus.adapters.database.transcripts import Transcript
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services.transcript_archiver.forms import captions, text_line
from voicebus_services.transcripts.options import AllTenants, DatabaseUrl, Tenant, archive

Session = Annotated[str, typer.Argument(metavar="SESSION", help="Its id.")]
Unheard = Annotated[
    bool, typer.Option("--said", envvar="VOICEBUS_SAID", help="Beside what was heard of a line, what was said.")
]
Vtt = Annotated[bool, typer.Option("--vtt", envvar="VOICEBUS_VTT", help="Print captions (WebVTT).")]
JsonLines = Annotated[bool, typer.Option("--jsonl", envvar="VOICEBUS_JSONL", help="Print each line as JSON.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print the whole as one line of JSON.")]


def show(
    session: Session,
    said: Unheard = False,
    vtt: Vtt = False,
    jsonl: JsonLines = False,
    tenant: Tenant = LOCAL_TENANT,
    all_tenants: AllTenants = False,
    database_url: DatabaseUrl = None,
    whole: AsJson = False,
) -> None:
    """Show one transcript: what was heard, as text.

    Exit status 1 where nothing was recorded of the session.
    """
    if sum((said, vtt, jsonl, whole)) > 1:
        raise UsageError("only one of --said, --vtt, --jsonl and --json is allowed")

    async def read() -> Transcript | None:
        async with archive(database_url) as store:
            return await store.transcript(session, tenant=None if all_tenants else tenant)

    found = run(read())
    if found is None:
        whose = "" if all_tenants else f" of tenant {tenant}"
        typer.echo(f"voicebus: nothing was recorded of a session {session!r}{whose}", err=True)
        raise typer.Exit(1)
    if whole:
        typer.echo(found.model_dump_json())
    elif vtt:
        typer.echo(captions(found.items))
    else:
        for item in found.items:
            typer.echo(item.model_dump_json() if jsonl else text_line(item, unheard=said))
    _remarks(found)


def _remarks(found: Transcript) -> None:
    """What a reader of the lines would not see."""
    if not found.items:
        typer.echo("voicebus: nothing was said in this session", err=True)
    if found.status == "interrupted":
        typer.echo("voicebus: this session was interrupted: its gateway died, and nobody came back for it", err=True)
    for first, last in found.gaps:
        which = f"event {first} is" if first == last else f"events {first} to {last} are"
        typer.echo(f"voicebus: {which} missing", err=True)
