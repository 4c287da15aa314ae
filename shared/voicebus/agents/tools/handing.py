"""Calls that another worker of the queue has to run: of a tool, or of a version of one, that this worker lacks.

As workers are exchanged, old and new ones read the same queue, and Redis gives a call to any of them. One that lacks
what a call needs hands it back, up to `MAX_HOPS` times; as chance might never give it to the right one, the next hands
it over to one of those that offer it.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.membership import Membership
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.scripts import HANDBACK, HANDOVER
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.python_call import PythonCall
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import CONTROL_TTL_S, WORKERS_GROUP
from voicebus.contracts.tools import TOOL_HANDOVER, ToolCall, ToolHandover, version_key
from voicebus.errors import ModelBehaviorError
from voicebus.ports import Delivery, SessionRef
from voicebus.runtime.consumer import LeftError, until_reached
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

MAX_HOPS: Final = 3
_HOP_PAUSE_S: Final = 0.05


class Handing:
    """Decides which calls are for others, and gets them there."""

    def __init__(
        self, member: Membership, registry: ToolRegistry, tools: Mapping[str, FunctionTool], queues: Mapping[str, str]
    ) -> None:
        self._member = member
        self._registry = registry
        self._tools = tools
        self._queues = queues

    def lacks(self, call: ToolCall) -> bool:
        """Whether this worker can never run the call: it has no such tool, or only an older version of it."""
        tool = self._tools.get(call.tool)
        if tool is None:
            return True
        return call.version is not None and version_key(call.version) > version_key(tool.version)

    def misfits(self, call: ToolCall) -> bool:
        """Whether the call was made for an older version of this worker's tool, with arguments that do not fit it."""
        tool = self._tools[call.tool]
        if call.version is None or version_key(call.version) >= version_key(tool.version):
            return False
        run = tool.on_invoke_tool
        if not isinstance(run, PythonCall):
            return False
        try:
            run.check(call.arguments)
        except ModelBehaviorError:
            return True
        return False

    async def on(self, entry: Entry, delivery: Delivery, call: ToolCall) -> bool:
        """Let another worker have the call; False where no living one can.

        Raises:
            LeftError: it is pending for another one now.
        """
        tool = self._tools.get(call.tool)
        # Made for an older version than ours, it needs one that is older, too; else its own or a newer one.
        older = tool is not None and not self.lacks(call)
        version = tool.version if older and tool is not None else call.version
        holders = await until_reached(lambda: self._registry.holders(call.tool, version=version, older=older))
        if not holders:
            return False
        if call.hops < MAX_HOPS:
            # Not at once after the first time: the worker that has the tool should be the one to read it.
            await asyncio.sleep(_HOP_PAUSE_S * call.hops)
            await self._back(entry, delivery, call)
            return True
        for holder in secrets.SystemRandom().sample(holders, len(holders)):
            if await self._over(entry, delivery, call, holder):
                raise LeftError
        return False

    async def _back(self, entry: Entry, delivery: Delivery, call: ToolCall) -> None:
        copy = replace(entry, data={**entry.data, "hops": call.hops + 1})
        flat = [text for pair in copy.fields().items() for text in pair]
        await until_reached(
            self._member.bus.script, HANDBACK, [delivery.stream], WORKERS_GROUP, delivery.entry_id, *flat
        )

    async def _over(self, entry: Entry, delivery: Delivery, call: ToolCall, holder: str) -> bool:
        bus, keys = self._member.bus, self._member.keys
        if holder == self._member.id or not await until_reached(bus.call, "HGET", keys.worker(holder), "handover"):
            return False
        arguments = (WORKERS_GROUP, delivery.entry_id, self._member.id, holder)
        if not await until_reached(bus.script, HANDOVER, [delivery.stream], *arguments):
            return True  # it is another's already
        log.info("call handed over", to=holder, version=call.version)
        told = ToolHandover(call_id=call.call_id, queue=self._queues[delivery.stream], entry_id=delivery.entry_id)
        session = SessionRef(entry.session, entry.epoch, entry.traceparent)
        message = new_entry(session, TOOL_HANDOVER, told, self._member.clock)
        await self._member.outbox.deliver(keys.control(holder), message, ttl_s=CONTROL_TTL_S)
        return True
