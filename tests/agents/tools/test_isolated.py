"""Tools in processes of their own: what they get and give, how they end, and that nobody else notices."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import computing
from support.computing import Stay, gone
from support.heavy import heavy_module
from support.waiting import wait_until
from voicebus import FunctionTool, ToolContext, UserError, function_tool
from voicebus.agents.tools.invoke import ToolOutcome, invoke
from voicebus.agents.tools.isolated import run_isolated
from voicebus.contracts.tools import Outcome
from voicebus.errors import ToolProcessError
from voicebus.runtime import processes
from voicebus.runtime.processes import ProcessPool


@pytest.fixture
async def pool() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(2)
    yield pool
    pool.close()


async def run(
    pool: ProcessPool, tool: FunctionTool, arguments: str = "{}", *, context: Any = None, **more: Any
) -> ToolOutcome:
    call = ToolContext(context, tool_name=tool.name, tool_call_id="c1", tool_arguments=arguments, **more)
    return await invoke(tool, call, arguments, timeout=60, processes=lambda: pool)


async def test_a_tool_runs_in_another_process_which_is_kept_for_the_next_call(pool: ProcessPool) -> None:
    first = await run(pool, computing.where, '{"stay": {"name": "Ann", "nights": 2}}')
    again = await run(pool, computing.where, '{"stay": {"name": "Ann", "nights": 3}}')
    assert (first.value[1], again.value[1]) == (2, 3)
    assert first.value[0] == again.value[0] != os.getpid()
    assert (await run(pool, computing.later, '{"number": 1}')).output == "2"


async def test_it_finds_its_call_and_context_says_how_far_it_is_and_changes_the_context(pool: ProcessPool) -> None:
    stay, heard = Stay(name="Ann", nights=2), list[tuple[str, int]]()

    def hear(text: str) -> None:
        heard.append((text, os.getpid()))

    outcome = await run(pool, computing.extend, '{"nights": 3}', context=stay, reports=hear)
    assert (outcome.output, stay.nights) == ("c1 5", 5)
    assert heard == [("counting", os.getpid())]
    kept: dict[str, Any] = {"nights": 1, "lock": threading.Lock()}
    refused = await run(pool, computing.extend, '{"nights": 3}', context=kept)
    assert refused.error is not None
    assert refused.error.kind == "not_sendable"
    assert "its arguments cannot be sent to a process" in refused.error.message


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("raise", "raised", "out of stock"),
        ("odd", "raised", "OddError: odd: really"),
        ("exit", "raised", "the tool raised SystemExit"),
        (
            "unsendable",
            "not_sendable",
            "its result cannot be sent from its process: cannot pickle",
        ),
    ],
)
async def test_what_goes_wrong_in_a_process_is_the_calls_error(
    pool: ProcessPool, how: str, kind: str, sentence: str
) -> None:
    outcome = await run(pool, computing.fail, f'{{"how": "{how}"}}')
    assert outcome.error is not None
    assert (outcome.outcome, outcome.error.kind) == (Outcome.ERROR, kind)
    assert sentence in outcome.error.message
    assert sentence in outcome.output, "the model is told"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [("die", "the process that ran it ended with exit code 7"), ("segfault", "was killed by signal 11 (SIGSEGV)")],
)
async def test_a_process_that_dies_takes_its_own_call_along_and_no_other(
    pool: ProcessPool, how: str, sentence: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    spinning = asyncio.create_task(run(pool, computing.spin, f'{{"started": "{started}"}}'))
    await wait_until(lambda: started.exists() and started.read_text(), description="the other call", timeout=30)
    outcome = await run(pool, computing.fail, f'{{"how": "{how}"}}')
    assert outcome.error is not None
    assert outcome.error.kind == "crashed"
    assert sentence in outcome.error.message
    assert not spinning.done()
    assert (await run(pool, computing.later, '{"number": 1}')).output == "2"
    spinning.cancel()
    await asyncio.gather(spinning, return_exceptions=True)


async def test_a_process_that_takes_longer_to_import_a_module_than_a_call_may_takes_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also after one has died: killed with each call, no process would ever be ready."""
    heavy = heavy_module(monkeypatch, tmp_path)
    tool = function_tool(heavy.lift, executor="process")
    pool = ProcessPool(1)
    await pool.prepare([heavy.lift])
    died = await run(pool, tool, '{"dies": true}')
    assert died.error is not None
    (tmp_path / "open").unlink()
    for _ in range(3):
        call = asyncio.create_task(run(pool, tool))
        await wait_until(lambda: len((tmp_path / "begun").read_text()) == 3, description="the import", timeout=30)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    (tmp_path / "open").touch()
    assert (await run(pool, tool)).output == "lifted"
    assert len((tmp_path / "begun").read_text()) == 3, "one here, one that was prepared, one that followed it"
    pool.close()


async def test_a_process_whose_import_hangs_is_killed_and_the_next_call_has_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heavy = heavy_module(monkeypatch, tmp_path)
    tool = function_tool(heavy.lift, executor="process")
    pool = ProcessPool(1)
    (tmp_path / "open").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(processes, "_START_S", 0.01)
        hung = await run(pool, tool)
    assert hung.error is not None
    assert (hung.error.kind, hung.error.message) == ("crashed", "its process did not begin within 0.01 s")
    (tmp_path / "open").touch()
    assert (await run(pool, tool)).output == "lifted"
    pool.close()


async def test_a_process_that_dies_at_its_start_fails_one_of_the_calls_that_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: ProcessPool
) -> None:
    heavy = heavy_module(monkeypatch, tmp_path)
    tool = function_tool(heavy.lift, executor="process")
    (tmp_path / "open").unlink()
    (tmp_path / "fatal").touch()
    died = tmp_path / "died"
    calls = [asyncio.create_task(run(pool, tool)) for _ in range(2)]
    await wait_until(lambda: len((tmp_path / "begun").read_text()) == 3, description="the imports", timeout=30)
    await wait_until(lambda: died.exists() and died.read_text(), description="the one that dies", timeout=30)
    await wait_until(lambda: gone(int(died.read_text())), description="its end", timeout=30)
    (tmp_path / "open").touch()
    outcomes = await asyncio.gather(*calls)
    assert sorted(outcome.outcome for outcome in outcomes) == sorted([Outcome.ERROR, Outcome.OK])
    assert len((tmp_path / "begun").read_text()) == 3, "one here, two for the calls, none in place of the one that died"


async def test_a_process_that_died_while_it_waited_for_work_costs_no_call(pool: ProcessPool) -> None:
    process = (await run(pool, computing.where, '{"stay": {"name": "Ann"}}')).value[0]
    os.kill(process, signal.SIGKILL)  # as the kernel does for want of memory
    await asyncio.to_thread(os.waitid, os.P_PID, process, os.WEXITED | os.WNOWAIT)
    outcome = await run(pool, computing.where, '{"stay": {"name": "Ann"}}')
    assert outcome.error is None
    assert outcome.value[0] != process
    await wait_until(lambda: gone(process), description="nothing to be left of it")


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_a_run_that_is_given_up_is_killed(pool: ProcessPool, end: str, tmp_path: Path) -> None:
    started = tmp_path / "started"
    running = asyncio.create_task(run(pool, computing.spin, f'{{"started": "{started}"}}'))
    await wait_until(lambda: started.exists() and started.read_text(), description="the start", timeout=30)
    process = int(started.read_text())
    if end == "cancel":
        running.cancel()
    else:
        pool.close()
    await asyncio.gather(running, return_exceptions=True)
    await wait_until(lambda: gone(process), description="the end of the process")


async def test_a_run_beyond_its_time_is_killed_and_another_process_takes_the_next(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    process = (await run(pool, computing.where, '{"stay": {"name": "Ann"}}')).value[0]
    call = ToolContext(None, tool_name="spin", tool_call_id="c1")
    arguments = f'{{"started": "{tmp_path / "started"}"}}'
    outcome = await invoke(computing.spin, call, arguments, timeout=0.2, processes=lambda: pool)
    assert outcome.outcome is Outcome.TIMEOUT
    await wait_until(lambda: gone(process), description="the end of the process")
    assert (await run(pool, computing.later, '{"number": 1}')).output == "2"
    pool.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems limit no memory")
async def test_a_tool_that_takes_too_much_memory_is_told_its_limit(pool: ProcessPool) -> None:
    assert (await run(pool, computing.hoard, '{"megabytes": 16}')).value == 16 * 1024**2
    outcome = await run(pool, computing.hoard, '{"megabytes": 200}')
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.message) == (
        "memory_limit", "it needed more memory than its limit of 64 MB"
    )  # fmt: skip
    assert (await run(pool, computing.hoard, '{"megabytes": 16}')).value == 16 * 1024**2


async def test_arguments_that_do_not_fit_need_no_process(pool: ProcessPool) -> None:
    outcome = await run(pool, computing.later, '{"number": "many"}')
    assert outcome.error is not None
    assert outcome.error.kind == "invalid_arguments"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"executor": "process"}, "executor='process' needs a function of a module that another process can import"),
        ({"executor": "fork"}, "executor must be 'auto' or 'process', not 'fork'"),
        ({"memory_limit": "1GB"}, "memory_limit needs executor='process'; a thread's cannot be limited"),
    ],
)
def test_what_cannot_be_isolated_is_refused(options: dict[str, Any], sentence: str) -> None:
    def local() -> None:
        """Do nothing."""

    with pytest.raises(UserError) as caught:
        function_tool(local, **options)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("given", "size"), [("512MB", 512 * 1024**2), ("1 GB", 1024**3), (2_000_000, 2_000_000)])
def test_a_memory_limit_is_bytes_or_a_text_with_a_unit(given: Any, size: int) -> None:
    assert function_tool(module_function, executor="process", memory_limit=given).memory == size


@pytest.mark.parametrize("given", ["much", "512", "0MB", 1000, True, 1.5])
def test_any_other_memory_limit_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="memory_limit must be a number of bytes from 1 MB, or a text such as '512MB'"):
        function_tool(module_function, executor="process", memory_limit=given)


def module_function() -> None:
    """Do nothing."""


async def test_fields_of_the_context_come_and_go(either_pool: ProcessPool) -> None:
    kept: dict[str, Any] = {"a": 1, "b": [1]}
    outcome = await run(either_pool, computing.forget, '{"field": "a"}', context=kept)
    assert (outcome.output, kept) == ("2", {"b": [1], "forgot": "a"})
    stay = Stay(name="Ann", nights=2)
    assert (await run(either_pool, computing.extend, '{"nights": 3}', context=stay)).output == "c1 5"
    assert stay.nights == 5
    assert (await run(either_pool, computing.later, '{"number": 1}')).output == "2"


async def test_a_tool_without_memory_left_says_what_its_limit_is(either_pool: ProcessPool) -> None:
    outcome = await run(either_pool, computing.exhaust)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.message) == (
        "memory_limit", "it needed more memory than its limit of 1024 MB"
    )  # fmt: skip


async def test_what_is_no_function_over_there_is_told_so(either_pool: ProcessPool) -> None:
    def missing() -> None: ...

    missing.__module__, missing.__qualname__ = computing.__name__, "NO_FUNCTION"
    context = ToolContext(None, tool_name="t", tool_call_id="c1", tool_arguments="{}")
    with pytest.raises(ToolProcessError, match=r"computing\.NO_FUNCTION is no function in another process"):
        await run_isolated(either_pool, missing, context, [], {}, None)
