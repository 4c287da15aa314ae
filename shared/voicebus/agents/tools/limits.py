"""How much of one tool a process runs: at once (`concurrency=`), and in a time (`rate_limit=`).

A call that has to wait for its tool's turn holds none of a worker's slots, so that a slow tool does not hold the
others up, and has nothing written about it: should the worker die, it starts elsewhere.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiolimiter import AsyncLimiter

from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.rate import Rate
from voicebus.ports import Clock, Delivery, Turn
from voicebus.runtime.slots import Slots


class _Called(msgspec.Struct):
    """What has to be known of a call's `data`."""

    tool: str = ""
    call_id: str = ""


class _Turn:
    """One call's turn at its tool. Implements `Turn`."""

    def __init__(self, gate: "Gate", left_s: float | None, unwanted: Callable[[], Awaitable[bool]] | None) -> None:
        self._gate = gate
        self._left_s = left_s
        self._unwanted = unwanted
        self._holds = False

    async def wait(self) -> None:
        """Return when the call may start, or when its deadline is over or nobody waits for it any more."""
        try:
            async with asyncio.timeout(self._left_s):
                await self._gate.room.take()
                self._holds = True
                if self._gate.rate is not None:
                    await self._gate.pass_in_time(self._unwanted)
        except TimeoutError:
            self.end()

    def end(self) -> None:
        if self._holds:
            self._gate.room.give()
        self._holds = False


class Gate:
    """What bounds one tool. Made on the event loop that it bounds."""

    def __init__(self, tool: FunctionTool) -> None:
        self.room: Slots = Slots(_room(tool))
        self.rate: AsyncLimiter | None = None
        self._limit: str | None = None
        # Of those that wait for the rate, the first waits for the limiter, the others for it.
        self._first = asyncio.Lock()
        self._waiting = 0
        self._handed_on = False
        self._bound_rate(tool)

    def bound(self, tool: FunctionTool) -> None:
        """Bound the tool that has this one's name now; what runs and what started lately counts on."""
        self.room.resize(_room(tool))
        if tool.rate_limit != self._limit:
            self._bound_rate(tool)

    def turn(self, left_s: float | None, unwanted: Callable[[], Awaitable[bool]] | None = None) -> Turn:
        """A turn for a call that has `left_s` to wait for it; None for ever. `unwanted` tells, once it had to wait for
        the rate, whether it will not start; then the next one has its turn.
        """
        return _Turn(self, left_s, unwanted)

    async def pass_in_time(self, unwanted: Callable[[], Awaitable[bool]] | None) -> None:
        """Return when the rate allows one more start."""
        if self.rate is not None and not self._waiting and self.rate.has_capacity():
            await self.rate.acquire()
            return
        self._waiting += 1
        try:
            async with self._first:
                if self.rate is not None and not self._handed_on:
                    await self.rate.acquire()
                self._handed_on = False
                if unwanted is not None and await unwanted():
                    self._handed_on = self._waiting > 1
        finally:
            self._waiting -= 1
            if not self._waiting:  # it is for those that waited beside it, or more might start in a time than may
                self._handed_on = False

    def _bound_rate(self, tool: FunctionTool) -> None:
        rate = Rate.parse(tool.rate_limit)
        self._limit = tool.rate_limit
        self.rate = None if rate is None else AsyncLimiter(rate.count, rate.seconds)


class Turns:
    """Gives delivered calls their turns at `tools`, by name, in which tools may come, go and change.

    `cancelled(delivery, call_id)` tells whether nobody waits for a call any more.
    """

    def __init__(
        self,
        tools: Mapping[str, FunctionTool],
        clock: Clock,
        cancelled: Callable[[Delivery, str], Awaitable[bool]],
    ) -> None:
        self._tools = tools
        self._clock = clock
        self._cancelled = cancelled
        self._gates: dict[str, Gate] = {}
        self._unlimited: Mapping[str, str] = {}
        self._read = msgspec.json.Decoder(_Called).decode
        self.follow()

    def follow(self) -> None:
        """Bound the tools that there are now."""
        # A tool that is gone, or without limits now, keeps its gate: what runs of it counts should it come back.
        for name, tool in self._tools.items():
            gate = self._gates.get(name)
            if gate is not None:
                gate.bound(tool)
            elif is_limited(tool):
                self._gates[name] = Gate(tool)
        self._unlimited = {name: tool.version for name, tool in self._tools.items() if name not in self._gates}

    def unlimited(self) -> Mapping[str, str]:
        """The versions of the tools, by name, whose calls never wait for a turn."""
        return self._unlimited

    def __call__(self, delivery: Delivery) -> Turn | None:
        """The turn of this call; None where its tool has no limits."""
        if not self._gates:
            return None
        try:
            called = self._read(delivery.fields.get("data", ""))
        except (msgspec.MsgspecError, RecursionError):
            return None  # whoever handles it says what is wrong
        gate = self._gates.get(called.tool)
        if gate is None or called.tool not in self._tools:
            return None
        deadline = delivery.fields.get("deadline", "")
        known = deadline.isascii() and deadline.isdigit()
        left_s = max(0.0, (int(deadline) - self._clock.at_ms()) / 1000) if known else None
        return gate.turn(left_s, lambda: self._cancelled(delivery, called.call_id))


def is_limited(tool: FunctionTool) -> bool:
    """Whether calls of this tool may have to wait for a turn."""
    return bool(tool.concurrency or tool.rate_limit)


def _room(tool: FunctionTool) -> int:
    return tool.concurrency or sys.maxsize
