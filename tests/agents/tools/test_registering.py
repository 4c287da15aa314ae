"""How a worker's tools come into the registry."""

import asyncio
from typing import Any, cast

from support.waiting import wait_until
from voicebus import FunctionTool, function_tool
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.agents.tools.registering import Registrar
from voicebus.contracts.tools import ToolRegistration


class FarRegistry:
    """Answers nobody before `go`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def publish(self, registration: ToolRegistration, **_: Any) -> None:
        self.asked.append(registration.name)
        await self.go.wait()

    async def withdraw(self, name: str, **_: Any) -> None:
        self.asked.append(name)
        await self.go.wait()


def numbered(number: int) -> FunctionTool:
    @function_tool(name_override=f"t{number}")
    async def tool() -> None:
        """Do nothing."""

    return tool


async def test_many_tools_come_and_go_together_and_not_one_after_another() -> None:
    registry = FarRegistry()
    tools = {tool.name: tool for tool in map(numbered, range(20))}
    registrar = Registrar(cast("ToolRegistry", registry), "w", tools, dict.fromkeys(tools, "q"), timeout_s=1.0)
    for work in (registrar.register, registrar.withdraw):
        registry.asked.clear()
        registry.go.clear()
        working = asyncio.create_task(work())
        await wait_until(lambda: len(registry.asked) == len(tools), description="all to be asked about")
        registry.go.set()
        await working
        assert registry.asked == list(tools)
