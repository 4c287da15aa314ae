"""How much of one tool a process runs: at once (`concurrency=`), and in a time (`rate_limit=`).

A call that has to wait for its tool's turn holds none of a worker's slots, so that a slow tool does not hold the
others up, and has nothing written about it: should the worker die, it starts elsewhere.
"""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
from aiolimiter import AsyncLimiter

from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.rate import Rate
from voicebus.ports import Clock, Delivery, Turn


class _Called(msgspec.Struct):
    """What has to be known of a call's `data`."""

    tool: str = ""


class _Turn:
    """One call's turn at its tool. Implements `Turn`."""

    def __init__(self, gate: "Gate", left_s: float | None) -> None:
        self._gate = gate
        self._left_s = left_s
        self._holds = False

    async def wait(self) -> None:
        """Return when the call may start, or when its deadline is over."""
        try:
            async with asyncio.timeout(self._left_s):
                if self._gate.room is not None:
                    await self._gate.room.acquire()
                    self._holds = True
                if self._gate.rate is not None:
                    await self._gate.rate.acquire()
        except TimeoutError:
            self.end()

    def end(self) -> None:
        if self._holds and self._gate.room is not None:
            self._gate.room.release()
        self._holds = False


class Gate:
    """What bounds one tool. Made on the event loop that it bounds."""

    def __init__(self, tool: FunctionTool) -> None:
        self.room: asyncio.Semaphore | None = None if tool.concurrency is None else asyncio.Semaphore(tool.concurrency)
        rate = Rate.parse(tool.rate_limit)
        self.rate: AsyncLimiter | None = None if rate is None else AsyncLimiter(rate.count, rate.seconds)

    @classmethod
    def of(cls, tool: FunctionTool) -> "Gate | None":
        """What bounds this tool; None where nothing does."""
        return cls(tool) if tool.concurrency or tool.rate_limit else None

    def turn(self, left_s: float | None) -> Turn:
        """A turn for a call that has `left_s` to wait for it; None for ever."""
        return _Turn(self, left_s)


def turns(tools: Mapping[str, FunctionTool], clock: Clock) -> Callable[[Delivery], Turn | None] | None:
    """What gives a delivered call its turn, None for a tool without limits; None altogether where no tool has any."""
    gates = {name: gate for name, tool in tools.items() if (gate := Gate.of(tool)) is not None}
    if not gates:
        return None
    decoder = msgspec.json.Decoder(_Called)

    def turn(delivery: Delivery) -> Turn | None:
        try:
            gate = gates.get(decoder.decode(delivery.fields.get("data", "")).tool)
        except (msgspec.MsgspecError, RecursionError):
            return None  # whoever handles it says what is wrong
        if gate is None:
            return None
        deadline = delivery.fields.get("deadline", "")
        known = deadline.isascii() and deadline.isdigit()
        return gate.turn(max(0.0, (int(deadline) - clock.at_ms()) / 1000) if known else None)

    return turn
