"""`voicebus transcripts export`: everything that was said in a time, as a file for other programs."""

import asyncio
import json
import sys
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from voicebus.adapters.database.transcripts import Rows, Status
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services.transcripts.options import Agent, AllTenants, DatabaseUrl, From, Tenant, To, archive, moment

if TYPE_CHECKING:  # of an extra
    from voicebus_services.transcripts.export_resuming import Reached

_TERMINAL_EVERY_S: Final = 0.2
_LOG_EVERY_S: Final = 10.0

File = Annotated[
    str, typer.Argument(metavar="FILE", help="Where to: NAME.jsonl, NAME.parquet, or - for the standard output.")
]
InFormat = Annotated[
    Literal["jsonl", "parquet"] | None,
    typer.Option("--format", envvar="VOICEBUS_FORMAT", help="The file's format, where its name does not tell."),
]
RowsOf = Annotated[
    Rows,
    typer.Option("--rows", envvar="VOICEBUS_ROWS", help="What is a row: a line, a session, or a turn of the model."),
]
OfStatus = Annotated[Status | None, typer.Option(envvar="VOICEBUS_STATUS", help="Only those of this status.")]
Force = Annotated[bool, typer.Option("--force", envvar="VOICEBUS_FORCE", help="Replace a file that is there.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", envvar="VOICEBUS_RESUME", help="Keep what is written in FILE.part, and go on from it (JSON lines)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print what was written as JSON.")]


def export(
    file: File,
    form: InFormat = None,
    rows: RowsOf = "lines",
    start: From = None,
    end: To = None,
    agent: Agent = None,
    status: OfStatus = None,
    tenant: Tenant = LOCAL_TENANT,
    all_tenants: AllTenants = False,
    force: Force = False,
    resume: Resume = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write transcripts to a file, the oldest first.

    The file is there once it is whole: an export that fails or is interrupted leaves nothing, or with --resume what the
    next one goes on from.
    """
    begun, before = moment(start, "--from"), moment(end, "--to")

    async def work() -> tuple[int, int]:
        async with archive(database_url) as store:
            from voicebus.adapters.database.exporting import columns
            from voicebus.adapters.database.finding import Filter
            from voicebus_services.transcripts.export_files import STDOUT, exported, format_of
            from voicebus_services.transcripts.export_resuming import resumed

            if as_json and file == STDOUT:
                raise UsageError("--json: FILE is the standard output, where there is nothing else then")
            wanted = Filter(None if all_tenants else tenant, agent=agent, start=begun, end=before, status=status)
            told = format_of(file, form)
            total = await store.count(wanted)
            if resume:
                choices = {
                    "rows": rows, "from": start, "to": end, "agent": agent, "status": status,
                    "tenant": None if all_tenants else tenant,
                }  # fmt: skip
                with resumed(file, told, choices, replace=force) as kept:
                    progress = _Progress(rows, total, kept.reached)
                    async with aclosing(store.export(rows, wanted, after=kept.after)) as pages:
                        async for page, done, place in pages:
                            await asyncio.to_thread(kept.write, page)
                            progress.tell(len(page), done)
                            if place is not None:
                                told_so_far = {"rows": progress.rows, "sessions": progress.sessions}
                                await asyncio.to_thread(partial(kept.keep, place, **told_so_far))
            else:
                with exported(file, told, columns(rows), replace=force) as writer:
                    progress = _Progress(rows, total)
                    async with aclosing(store.export(rows, wanted)) as pages:
                        async for page, done, _ in pages:
                            await asyncio.to_thread(writer.write, page)
                            progress.tell(len(page), done)
            progress.end()
            return progress.rows, progress.sessions

    written, sessions = run(work())
    size = 0 if file == "-" else Path(file).stat().st_size
    if as_json:
        typer.echo(json.dumps({"file": file, "rows": written, "sessions": sessions, "bytes": size}))
        return
    where = "" if file == "-" else f" in {file} ({size:,} bytes)"
    typer.echo(f"voicebus: {_told(rows, written, sessions)}{where}", err=True)


class _Progress:
    """Tells on stderr how far it is: on a terminal in one line that changes, elsewhere now and then."""

    def __init__(self, what: str, total: int, reached: "Reached | None" = None) -> None:
        self.rows = 0 if reached is None else reached.rows
        self._before = self.sessions = 0 if reached is None else reached.sessions
        self._what = what
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def tell(self, rows: int, sessions: int) -> None:
        self.rows += rows
        self.sessions = self._before + sessions
        now = time.monotonic()
        if now >= self._told + (_TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S):
            self._told = now
            # What began meanwhile comes on top of what was counted at first.
            share = f"{min(100, 100 * self.sessions // max(1, self._total))} %"
            line = f"voicebus: {share}: {_told(self._what, self.rows, self.sessions)}"
            typer.echo(f"\r\x1b[K{line}" if self._terminal else line, err=True, nl=not self._terminal)

    def end(self) -> None:
        if self._terminal:
            typer.echo("\r\x1b[K", err=True, nl=False)


def _told(what: str, rows: int, sessions: int) -> str:
    told = _counted(what, rows)
    return told if what == "sessions" else f"{told} of {_counted('sessions', sessions)}"


def _counted(what: str, count: int) -> str:
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"
