"""Checks that another worker has to judge: this one lacks a guardrail of theirs.

As workers are exchanged, old and new ones read the same streams, and Redis gives a check to any of them. One that lacks
a guardrail of a check hands it back, until it comes to one that has them all, or its time is over.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.membership import Membership
from voicebus.adapters.redis.scripts import HANDBACK
from voicebus.adapters.redis.trimming import pairs
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GuardrailCheck
from voicebus.contracts.streams import WORKERS_GROUP
from voicebus.ports import Delivery
from voicebus.runtime.consumer import until_reached

_HOP_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.05


class Handing:
    """Gets checks to workers that have what they need."""

    def __init__(self, member: Membership) -> None:
        self._member = member

    async def back(self, entry: Entry, delivery: Delivery, check: GuardrailCheck, stands_for: Sequence[str]) -> bool:
        """Let another worker have the check; False where no living one has all of its guardrails.

        `stands_for` are older checks that it has made needless here.
        """
        if not await until_reached(self._is_for_others, delivery.stream, check):
            return False
        # Not at once after the first time: the worker that has them should be the one to read it.
        await asyncio.sleep(min(_HOP_PAUSE_S * check.hops, _LONGEST_PAUSE_S))
        more = {"hops": check.hops + 1, "stands_for": [*check.stands_for, *stands_for]}
        copy = replace(entry, data={**entry.data, **more})
        flat = [text for pair in copy.fields().items() for text in pair]
        await until_reached(
            self._member.bus.script, HANDBACK, [delivery.stream], WORKERS_GROUP, delivery.entry_id, *flat
        )
        return True

    async def _is_for_others(self, stream: str, check: GuardrailCheck) -> bool:
        bus = self._member.bus
        consumers = map(pairs, await bus.call("XINFO", "CONSUMERS", stream, WORKERS_GROUP))
        others = [self._member.keys.worker(one["name"]) for one in consumers if one["name"] != self._member.id]
        told = await asyncio.gather(*(bus.submit("HGET", other, "guardrails") for other in others))
        able = [other for other, text in zip(others, told, strict=True) if _named(text) >= set(check.guardrails)]
        return any(await living(bus, able))


def _named(text: str | None) -> set[str]:
    """The guardrails that a heartbeat tells of."""
    try:
        names = json.loads(text or "[]")
    except ValueError:
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
