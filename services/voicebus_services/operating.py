"""What the commands that operate a cluster share: their options, the way to its Redis, and lists that need no name."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.contracts.streams import Keys
from voicebus_services.settings import BusSettings, load

RedisUrl = Annotated[
    str | None,
    typer.Option(envvar="VOICEBUS_REDIS_URL", help="The cluster's Redis. Default: redis://127.0.0.1:6379/0."),
]
Prefix = Annotated[
    str | None, typer.Option(envvar="VOICEBUS_STREAM_PREFIX", help="First part of every Redis key. Default: vb.")
]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print JSON lines.")]

T = TypeVar("T")
Work = Callable[[RedisConnection, Keys, RedisClock], Awaitable[T]]


class ListsByDefault(TyperGroup):
    """Commands of which `list` is meant where none is named: `voicebus tools --json`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args = ["list", *args]
        return super().parse_args(ctx, args)


async def on_the_bus(work: Work[T], redis_url: str | None, stream_prefix: str | None) -> T:
    """Do `work` with a connection to the cluster's Redis.

    Raises:
        SettingsError: an option or a variable that cannot be.
        BusError: Redis cannot be reached.
    """
    settings = load(BusSettings, redis_url=redis_url, stream_prefix=stream_prefix)
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)
    async with await connect(settings.redis_url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        return await work(bus, keys, clock)
