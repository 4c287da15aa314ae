"""`voicebus top`: the cluster in a terminal."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError
from voicebus.runtime.lifecycle import run
from voicebus_services.operating import Prefix, RedisUrl
from voicebus_services.settings import BusSettings, load
from voicebus_services.top.cluster import Cluster, Snapshot
from voicebus_services.top.screen import as_json, render, troubled

_WIDE: Final = 200

Tenant = Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose sessions are listed; all are counted.")]
Every = Annotated[float, typer.Option(envvar="VOICEBUS_EVERY", min=0.2, max=3600, help="Seconds between two looks.")]
Limit = Annotated[int, typer.Option(envvar="VOICEBUS_LIMIT", min=0, max=1000, help="List the newest so many sessions.")]
Once = Annotated[bool, typer.Option("--once", envvar="VOICEBUS_ONCE", help="Print what there is now, and exit.")]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print one JSON object for each look.")]


def top(
    every: Every = 2.0,
    limit: Limit = 15,
    once: Once = False,
    tenant: Tenant = LOCAL_TENANT,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Show the cluster as it is, again and again.

    Gateways, queues, tools, latencies of the last minute, live sessions. The last minute is whole once this has run for
    one: what archivers had taken before is gone from Redis, so the first look (and --once) shows what they have not.

    Everything is read from Redis, so neither Prometheus nor Grafana is needed. Ctrl-C ends it.
    """
    settings = load(BusSettings, redis_url=redis_url, stream_prefix=stream_prefix)
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)

    async def looks() -> AsyncIterator[Snapshot | BusError]:
        """What is seen; after the first look also why nothing is: an outage is what one wants to see the end of."""
        async with await connect(settings.redis_url) as bus:
            clock = RedisClock(bus)
            await clock.synchronise()
            cluster = Cluster(bus, keys, clock, tenant=tenant, sessions=limit)
            yield await cluster.look()
            while True:
                try:
                    await cluster.follow(every)
                    yield await cluster.look()
                except BusError as error:
                    yield error
                    await asyncio.sleep(every)

    async def work() -> None:
        # A pipe has no width: tables are as wide as they are.
        wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
        console = Console(width=wide)
        if json_lines or once or not sys.stdout.isatty() or console.is_dumb_terminal:
            async for seen in looks():
                if json_lines:
                    typer.echo(json.dumps({"error": str(seen)} if isinstance(seen, BusError) else as_json(seen)))
                else:
                    console.print(troubled(seen) if isinstance(seen, BusError) else render(seen))
                if once:
                    return
        last: Snapshot | None = None
        with Live(console=console, screen=True, auto_refresh=False) as live:
            async for seen in looks():
                last = last if isinstance(seen, BusError) else seen
                shown = troubled(seen, last) if isinstance(seen, BusError) else render(seen, console)
                live.update(shown, refresh=True)

    run(work())
