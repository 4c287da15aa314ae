"""`voicebus tools`: which tools the workers of a cluster offer, and which of them rest."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.runtime.lifecycle import run
from voicebus_services.settings import BusSettings, load

app = typer.Typer(name="tools", help="The tools that workers offer, and which of them rest.")

RedisUrl = Annotated[str | None, typer.Option(envvar="VOICEBUS_REDIS_URL", help="The cluster's Redis.")]
Prefix = Annotated[str | None, typer.Option(envvar="VOICEBUS_STREAM_PREFIX", help="First part of every Redis key.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print JSON lines.")]


@app.callback(invoke_without_command=True)
def tools(
    context: typer.Context, redis_url: RedisUrl = None, stream_prefix: Prefix = None, json_lines: AsJson = False
) -> None:
    """List the tools that workers offer; one that rests failed too often in a row, and is not called for a while."""
    if context.invoked_subcommand is None:
        list_command(redis_url, stream_prefix, json_lines)


@app.command("list")
def list_command(redis_url: RedisUrl = None, stream_prefix: Prefix = None, json_lines: AsJson = False) -> None:
    """List the tools that workers offer."""

    async def work(registry: ToolRegistry, circuits: CircuitWatch) -> None:
        registered = await registry.listed()
        await circuits.read()
        for _, known in sorted(registered.items()):
            about = _about(known, circuits)
            typer.echo(json.dumps(about) if json_lines else _line(about))
        if not registered:
            typer.echo("voicebus: no worker has registered a tool", err=True)

    run(_with(work, redis_url, stream_prefix))


@app.command("reset")
def reset_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Tools that rest.")],
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Have tools called again that rest because they failed too often."""

    async def work(registry: ToolRegistry, circuits: CircuitWatch) -> bool:
        good = True
        for name in names:
            if await circuits.close(name):
                typer.echo(json.dumps({"reset": True, "tool": name}) if json_lines else f"reset {name}")
            else:
                good = False
                typer.echo(f"voicebus: {name} does not rest", err=True)
        return good

    if not run(_with(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


def _about(known: ToolRegistration, circuits: CircuitWatch) -> dict[str, Any]:
    circuit = circuits.circuits.get(known.name)
    about = known.model_dump(mode="json", exclude={"older", "at"})
    if circuit is None:
        return about | {"circuit": None}
    until = datetime.fromtimestamp(circuit.until / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    state = "open" if circuits.rests(known.name) else "half_open"
    return about | {"circuit": {"state": state, "until": until, "failures": circuit.failures, "error": circuit.error}}


def _line(about: dict[str, Any]) -> str:
    count = len(about["workers"])
    workers = "1 worker" if count == 1 else f"{count} workers"
    line = f"{about['name']}  queue {about['queue']}  version {about['version']}  {workers}"
    circuit = about["circuit"]
    if circuit is None:
        return line
    error = " ".join(str(circuit["error"]).split())
    rests = "rests until" if circuit["state"] == "open" else "is tried by its next call, as it rested until"
    return f"{line}  {rests} {circuit['until']} ({circuit['failures']} failures in a row: {error})"


async def _with(
    work: Callable[[ToolRegistry, CircuitWatch], Awaitable[Any]], redis_url: str | None, stream_prefix: str | None
) -> Any:
    settings = load(BusSettings, redis_url=redis_url, stream_prefix=stream_prefix)
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)
    async with await connect(settings.redis_url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        return await work(ToolRegistry(bus, keys, clock), CircuitWatch(bus, keys, clock))
