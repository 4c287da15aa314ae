"""Watches what two Prometheus servers make of a cluster: which expressions have had data, and which alerts fired."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from observability.timelapse import firing
from support.prometheus import PrometheusServer
from support.waiting import wait_until

WITHIN_S: Final = 60.0


@dataclass
class Watch:
    """Asks Prometheus for each expression until it has had data once."""

    prometheus: PrometheusServer
    lapse: PrometheusServer
    """The same processes, under rules in time-lapse."""
    missing: set[str]
    had: set[str] = field(default_factory=set)
    fired: set[str] = field(default_factory=set)

    async def look(self) -> None:
        for expression in sorted(self.missing):
            await self._has_had(expression)

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(1)

    async def follow_alerts(self) -> None:
        while True:
            self.fired |= await firing(self.lapse)
            await asyncio.sleep(0.5)

    def has_fired(self, *alerts: str) -> bool:
        return self.fired.issuperset(alerts)

    async def settled(self, *, quiet_s: int = 6) -> None:
        """Wait until nothing new has had data for a while: streams are measured every 5 s."""
        before, quiet = len(self.had), 0
        while quiet < quiet_s and self.missing:
            await asyncio.sleep(1)
            quiet = quiet + 1 if len(self.had) == before else 0
            before = len(self.had)

    async def until(self, *expressions: str) -> None:
        """Wait until each has had data; asks for these alone, since a round of all takes long on a busy machine."""
        for expression in expressions:
            if expression not in self.had:
                await wait_until(
                    partial(self._has_had, expression),
                    description=f"data of {expression}",
                    timeout=WITHIN_S,
                    interval=0.2,
                )

    async def _has_had(self, expression: str) -> bool:
        if expression not in self.had and await self.prometheus.has_data(expression):
            self.missing.discard(expression)
            self.had.add(expression)
        return expression in self.had
