"""`vb:config`: what the whole installation agrees on, written by whoever starts first (contract section 1)."""

import asyncio
from typing import Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.contracts.streams import Keys
from voicebus.errors import BusError, SettingsError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

PIN_EVERY_S: Final = 5.0


async def pin_config(bus: RedisConnection, keys: Keys) -> None:
    """Pin this installation's shard counts, or check them against those that are pinned.

    They decide in which key a session lives, so two services that differ would not find each other's sessions.

    Raises:
        SettingsError: this service is configured otherwise.
        BusError: Redis cannot be reached.
    """
    for name, wanted in (("event_shards", keys.event_shards), ("guardrail_shards", keys.guardrail_shards)):
        await bus.call("HSETNX", keys.config, name, wanted)
        pinned = await bus.call("HGET", keys.config, name)
        if pinned != str(wanted):
            raise SettingsError(
                f"VOICEBUS_{name.upper()}: {wanted} was read, but {keys.config!r} in Redis says {pinned}; set it to "
                f"{pinned}, or choose another VOICEBUS_STREAM_PREFIX"
            )


async def keep_pinned(bus: RedisConnection, keys: Keys) -> None:
    """Pin again now and then, until cancelled: a Redis that came back empty has forgotten what was agreed.

    Every process on the bus runs it, so that after such a loss those that run are quicker than one that starts.
    """
    while True:
        await asyncio.sleep(PIN_EVERY_S)
        try:
            await pin_config(bus, keys)
        except BusError as error:
            log.debug("configuration not pinned while Redis is away", error=str(error))
        except SettingsError as error:
            # Its sessions are where it put them: it serves them to the end, and an operator must decide.
            log.error("the installation was pinned otherwise meanwhile", error=str(error))  # noqa: TRY400


async def register_event_group(bus: RedisConnection, keys: Keys, group: str) -> None:
    """Write down that `group` reads the event streams, so that they are trimmed only behind it too.

    Raises:
        BusError: Redis cannot be reached.
    """
    await bus.call("HSET", keys.config, f"group:{group}", "1")


async def event_groups(bus: RedisConnection, keys: Keys) -> frozenset[str]:
    """The groups that have registered on the event streams."""
    fields: list[str] = await bus.call("HKEYS", keys.config)
    return frozenset(field.removeprefix("group:") for field in fields if field.startswith("group:"))
