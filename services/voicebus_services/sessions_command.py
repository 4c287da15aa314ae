"""`voicebus sessions`: which conversations there are in a cluster, and the end of one."""

import json
from typing import Annotated

import typer

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.directory import SessionDirectory, Status
from voicebus.contracts.journal import LOCAL_TENANT, DecidedBy
from voicebus.contracts.streams import Keys
from voicebus.errors import CommandRefusedError
from voicebus.runtime.lifecycle import run
from voicebus_services.asking import asking
from voicebus_services.operating import AsJson, ListsByDefault, Prefix, RedisUrl, on_the_bus
from voicebus_services.session_shown import SessionShown

app = typer.Typer(
    name="sessions", cls=ListsByDefault, help="The conversations of a cluster. Without a command they are listed."
)

Id = Annotated[str, typer.Argument(metavar="SESSION", help="Its id.")]
Tenant = Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose sessions.")]
Statuses = Annotated[
    list[Status] | None, typer.Option("--status", envvar="VOICEBUS_STATUS", help="Only those of these statuses.")
]
Agent = Annotated[str | None, typer.Option(envvar="VOICEBUS_AGENT", help="Only those that this agent holds now.")]
Limit = Annotated[int, typer.Option(envvar="VOICEBUS_LIMIT", min=1, help="The newest so many.")]


@app.command("list")
def list_command(
    status: Statuses = None,
    agent: Agent = None,
    limit: Limit = 100,
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """List the sessions of the last two days.

    Those of the whole cluster, newest first.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> None:
        directory = SessionDirectory(bus, keys, clock)
        shown, after = 0, None
        while shown < limit:
            page = await directory.page(
                tenant, limit=min(1000, limit - shown), after=after,
                wanted=lambda seen: (not status or seen.status in status) and agent in (None, seen.agent),
            )  # fmt: skip
            for seen in page.sessions:
                _print(SessionShown.of(seen), json_lines)
            shown, after = shown + len(page.sessions), page.after
            if after is None:
                break
        if not shown:
            typer.echo(f"voicebus: tenant {tenant} has no such session (--tenant names another)", err=True)

    run(on_the_bus(work, redis_url, stream_prefix))


@app.command("show")
def show_command(
    session: Id,
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Show one session.

    Also one that has ended: they are known for a day after.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> bool:
        seen = await SessionDirectory(bus, keys, clock).show(tenant, session)
        if seen is None:
            typer.echo(f"voicebus: there is no session {session!r} of tenant {tenant}", err=True)
            return False
        _print(SessionShown.of(seen), json_lines)
        return True

    if not run(on_the_bus(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


@app.command("end")
def end_command(
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Their ids.")],
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """End sessions.

    Each is told to the gateway that holds it, which answers within two seconds.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> bool:
        return await _end(bus, keys, clock, sessions, tenant, json_lines)

    if not run(on_the_bus(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


async def _end(
    bus: RedisConnection, keys: Keys, clock: RedisClock, sessions: list[str], tenant: str, json_lines: bool
) -> bool:
    good = True
    async with asking(bus, keys, clock, service="sessions") as commands:
        for session in sessions:
            try:
                await commands.send(session, "end", {}, tenant=tenant, by=DecidedBy(via="stream", tenant=tenant))
            except CommandRefusedError as refused:
                good = False
                typer.echo(f"voicebus: {session}: {refused}", err=True)
            else:
                typer.echo(json.dumps({"session": session, "ended": True}) if json_lines else f"ended {session}")
    return good


def _print(shown: SessionShown, json_lines: bool) -> None:
    if json_lines:
        typer.echo(shown.model_dump_json())
        return
    began = shown.started_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    ended = "" if shown.end_reason is None else f"  ({shown.end_reason})"
    typer.echo(f"{shown.id}  {shown.status}{ended}  agent {shown.agent}  since {began}  on {shown.gateway or 'none'}")
