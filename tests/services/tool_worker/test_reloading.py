"""`voicebus tool-worker --reload`: what a developer changes is what runs, and calls in hand are finished."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from support.processes import service
from support.tool_calls import Caller
from support.waiting import wait_until
from voicebus.contracts.tools import Outcome

pytestmark = pytest.mark.timeout(120)

TOOL = '''
import asyncio

from voicebus import function_tool


@function_tool(queue="default")
async def greet({parameters}) -> str:
    """Greet."""
    await asyncio.sleep({seconds})
    return "{words}"
'''


async def offered(caller: Caller, parameter: str) -> None:
    """Wait until `greet` is registered, by a living worker, with this parameter."""

    async def known() -> Any:
        text = await caller.bus.call("HGET", caller.keys.registry_tools, "greet") or ""
        return f'"{parameter}"' in text and '"workers":[]' not in text

    await wait_until(known, description=f"greet with {parameter}", timeout=40)


async def test_a_change_is_run_and_registered_and_a_call_in_hand_is_finished_before(
    caller: Caller, redis_url: str, stream_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(**parts: Any) -> None:
        module.write_text(TOOL.format(**{"seconds": 0, **parts}))

    module = tmp_path / "greeting.py"
    write(parameters="name: str", words="first", seconds=2)
    environment = {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix}
    monkeypatch.chdir(tmp_path)
    async with service("tool-worker", "--reload", "greeting", environment=environment) as worker:
        await offered(caller, "name")
        caller.call("greet", '{"name": "Ada"}')
        await caller.started()
        write(parameters="first: str, last: str", words="second")
        result = await caller.result()
        assert (result.outcome, result.output) == (Outcome.OK, "first")
        await offered(caller, "last")
        caller.call("greet", '{"first": "Ada", "last": "L"}', call_id="c2")
        assert (await caller.result("c2")).output == "second"

        module.write_text("this is no Python")
        await wait_until(lambda: any("importing it failed" in line for line in worker.lines), description="the error")
        write(parameters="whom: str", words="third")
        await offered(caller, "whom")
        os.kill(worker.pid, signal.SIGTERM)
        assert await worker.ended() == 0

        async def withdrawn() -> bool:
            return '"workers":[]' in await caller.bus.call("HGET", caller.keys.registry_tools, "greet")

        await wait_until(withdrawn, description="the end of the worker")


async def test_a_worker_that_dies_of_a_tool_is_told_and_started_anew_by_the_next_change(
    caller: Caller, redis_url: str, stream_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "greeting.py"
    module.write_text(TOOL.format(parameters="name: str", words="first", seconds=60))
    environment = {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix}
    monkeypatch.chdir(tmp_path)
    async with service("tool-worker", "--reload", "greeting", environment=environment) as worker:
        await offered(caller, "name")
        caller.call("greet", '{"name": "Ada"}')
        started = await caller.started()
        os.kill(int(started.worker.split("-")[-2]), signal.SIGKILL)

        def told() -> bool:
            return any("the worker has ended" in line and "SIGKILL" in line for line in worker.lines)

        await wait_until(told, description="what became of it")
        module.write_text(TOOL.format(parameters="whom: str", words="second", seconds=0))
        await offered(caller, "whom")
