"""`voicebus approvals`: the calls of tools that wait for a person's word, and that word."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from voicebus.adapters.redis.awaiting import AwaitingCall, awaiting
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.directory import SessionDirectory
from voicebus.contracts.journal import LOCAL_TENANT, DecidedBy
from voicebus.contracts.streams import Keys
from voicebus.errors import CommandRefusedError
from voicebus.runtime.lifecycle import run
from voicebus_services.asking import asking
from voicebus_services.operating import AsJson, ListsByDefault, Prefix, RedisUrl, on_the_bus
from voicebus_services.printable import printable

app = typer.Typer(
    name="approvals",
    cls=ListsByDefault,
    help="Tool calls that wait for a person's word. Without a command they are listed.",
)

Session = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")]
Calls = Annotated[list[str], typer.Argument(metavar="CALL...", help="Ids of its calls.")]
Tenant = Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose sessions.")]
Always = Annotated[
    bool,
    typer.Option("--always", envvar="VOICEBUS_ALWAYS", help="So with all further calls of that tool in the session."),
]


@app.command("list")
def list_command(
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """List the calls that wait.

    Of all live sessions, each with the session's id, its own, the tool and the arguments.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> None:
        found = False
        async for call in awaiting(bus, keys, SessionDirectory(bus, keys, clock), tenant):
            found = True
            typer.echo(json.dumps(_about(call)) if json_lines else _line(call))
        if not found:
            typer.echo(f"voicebus: no call of tenant {tenant} waits for a word (--tenant names another)", err=True)

    run(on_the_bus(work, redis_url, stream_prefix))


@app.command("approve")
def approve_command(
    session: Session,
    calls: Calls,
    always: Always = False,
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Let calls run.

    The gateway that holds the session is told, and answers within two seconds.
    """
    _decide("approve", session, calls, {"always": always}, tenant, redis_url, stream_prefix, json_lines=json_lines)


@app.command("reject")
def reject_command(
    session: Session,
    calls: Calls,
    message: Annotated[
        str | None,
        typer.Option(envvar="VOICEBUS_MESSAGE", help="What the model is told. Default: that it was not approved."),
    ] = None,
    always: Always = False,
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Refuse calls.

    The gateway that holds the session is told, and answers within two seconds.
    """
    word = {"always": always, "message": message}
    _decide("reject", session, calls, word, tenant, redis_url, stream_prefix, json_lines=json_lines)


def _decide(
    command: str, session: str, calls: list[str], word: Mapping[str, Any], tenant: str,
    redis_url: str | None, stream_prefix: str | None, *, json_lines: bool,
) -> None:  # fmt: skip
    done = {"approve": "approved", "reject": "rejected"}[command]

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> bool:
        good, by = True, DecidedBy(via="stream", tenant=tenant)
        async with asking(bus, keys, clock, service="approvals") as commands:
            for call in calls:
                try:
                    await commands.send(session, command, {"call_id": call, **word}, tenant=tenant, by=by)
                except CommandRefusedError as refused:
                    good = False
                    typer.echo(f"voicebus: {call}: {refused}", err=True)
                else:
                    about = {"session": session, "call_id": call, "decision": done}
                    typer.echo(json.dumps(about) if json_lines else f"{done} {call}")
        return good

    if not run(on_the_bus(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


def _about(call: AwaitingCall) -> dict[str, str]:
    asked = datetime.fromtimestamp(call.asked_at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "session": call.session, "call_id": call.call_id, "tool": call.tool, "arguments": call.arguments,
        "agent": call.agent, "asked_at": asked,
    }  # fmt: skip


def _line(call: AwaitingCall) -> str:
    about = _about(call)
    told = f"{call.tool}({' '.join(call.arguments.split())})"
    return printable(f"{call.session}  {call.call_id}  {told}  agent {call.agent}  since {about['asked_at']}")
