"""`voicebus transcripts retention`: what tenants do not keep any longer is erased now, as by a CronJob."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from voicebus.errors import SettingsError
from voicebus.runtime.lifecycle import run
from voicebus_services.recordings import storage_at
from voicebus_services.settings import PrivacySettings, RecordingsSettings, load
from voicebus_services.transcripts.erase_command import DryRun, RecordingsUrl
from voicebus_services.transcripts.options import AsJson, DatabaseUrl, archive

PrivacyFile = Annotated[
    Path | None, typer.Option(envvar="VOICEBUS_PRIVACY_FILE", metavar="FILE", help="How long tenants keep what.")
]


def retention(
    privacy_file: PrivacyFile = None,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    recordings_url: RecordingsUrl = None,
    json_lines: AsJson = False,
) -> None:
    """Erase what is older than its tenant keeps it.

    Then looks whether any of it is left, which is exit status 1. Archivers do the same every
    VOICEBUS_RETENTION_EVERY.
    """
    file = load(PrivacySettings, privacy_file=privacy_file).privacy_file
    if file is None:
        raise SettingsError(
            "VOICEBUS_PRIVACY_FILE: nothing was read; name the file that says how long tenants keep their sessions"
        )
    if not run(_run(file, recordings_url, database_url, dry_run=dry_run, json_lines=json_lines)):
        raise typer.Exit(1)


async def _run(
    file: Path, recordings_url: str | None, database_url: str | None, *, dry_run: bool, json_lines: bool
) -> bool:
    from voicebus_services.privacy.policy import read_policies

    policies = read_policies(file)
    where = load(RecordingsSettings, recordings_url=recordings_url).recordings_url
    storage = None if where is None else storage_at(where)
    async with archive(database_url) as store:
        from voicebus_services.privacy.eraser import Eraser
        from voicebus_services.privacy.retention import Retention

        job = Retention(store.erasing, Eraser(store, storage), policies, lambda: time.time_ns() // 1_000_000)
        if dry_run:
            _tell_due(await job.due(), await job.due_recordings(), json_lines=json_lines)
            return True
        done = await job.run()
    _tell({**asdict(done), "storage": storage is not None}, json_lines=json_lines)
    return not done.left


def _tell_due(due: dict[str, int], recordings: dict[str, int], *, json_lines: bool) -> None:
    if json_lines:
        typer.echo(json.dumps({"due": due, "recordings": recordings}))
        return
    for tenant in sorted(due.keys() | recordings.keys()):
        if number := due.get(tenant, 0):
            typer.echo(f"tenant {tenant}: {number} sessions would be erased")
        if number := recordings.get(tenant, 0):
            typer.echo(f"tenant {tenant}: what is recorded of {number} other sessions would be erased")
    if not due and not recordings:
        typer.echo("nothing is due")


def _tell(done: dict[str, Any], *, json_lines: bool) -> None:
    if json_lines:
        typer.echo(json.dumps(done))
        return
    for tenant in sorted(done["sessions"].keys() | done["recordings"].keys()):
        sessions, recordings = done["sessions"].get(tenant, 0), done["recordings"].get(tenant, 0)
        typer.echo(f"tenant {tenant}: {sessions} sessions erased, recordings of {recordings} others")
    months = f", {len(done['months'])} months whole" if done["months"] else ""
    looked = "" if done["storage"] else " (not looked for: no VOICEBUS_RECORDINGS_URL is set)"
    typer.echo(f"{done['rows']} rows{months}, {done['recording_bytes']} bytes of recordings{looked}")
    for tenant, number in sorted(done["left"].items()):
        typer.echo(f"voicebus: tenant {tenant}: {number} sessions that are due are still there", err=True)
    if not done["left"]:
        typer.echo("nothing that is due is left")
