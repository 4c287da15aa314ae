"""`voicebus tools`: which tools the workers of a cluster offer, and which of them rest."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from voicebus.adapters.redis.circuits import CircuitWatch
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.runtime.lifecycle import run
from voicebus_services.operating import AsJson, ListsByDefault, Prefix, RedisUrl, on_the_bus
from voicebus_services.printable import printable

app = typer.Typer(
    name="tools",
    cls=ListsByDefault,
    help="The tools that workers offer. Without a command they are listed.",
)


@app.command("list")
def list_command(redis_url: RedisUrl = None, stream_prefix: Prefix = None, json_lines: AsJson = False) -> None:
    """List the tools that workers offer, in every version.

    One that rests failed too often in a row, and is not called for a while.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> None:
        circuits = CircuitWatch(bus, keys, clock)
        registered = await ToolRegistry(bus, keys, clock).listed()
        await circuits.read()
        for _, known in sorted(registered.items()):
            for version in known.versions:
                about = _about(version, circuits)
                typer.echo(json.dumps(about) if json_lines else _line(about))
        if not registered:
            typer.echo("voicebus: no worker has registered a tool", err=True)

    run(on_the_bus(work, redis_url, stream_prefix))


@app.command("reset")
def reset_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Tools that rest.")],
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Have tools called again that rest.

    They failed too often in a row.
    """

    async def work(bus: RedisConnection, keys: Keys, clock: RedisClock) -> bool:
        good, circuits = True, CircuitWatch(bus, keys, clock)
        for name in names:
            if await circuits.close(name):
                typer.echo(json.dumps({"reset": True, "tool": name}) if json_lines else f"reset {name}")
            else:
                good = False
                typer.echo(f"voicebus: {name} does not rest", err=True)
        return good

    if not run(on_the_bus(work, redis_url, stream_prefix)):
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
    error = printable(" ".join(str(circuit["error"]).split()))
    rests = "rests until" if circuit["state"] == "open" else "is tried by its next call, as it rested until"
    return f"{line}  {rests} {circuit['until']} ({circuit['failures']} failures in a row: {error})"
