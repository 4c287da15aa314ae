"""Guardrails in processes of their own: what goes there, and what comes back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support import judges
from support.heavy import heavy_module
from support.waiting import wait_until
from voicebus import GuardrailFunctionOutput, RealtimeAgent, RunContextWrapper
from voicebus.agents.apart import call_apart
from voicebus.errors import ToolProcessError
from voicebus.runtime.processes import ProcessPool


async def ask(pool: ProcessPool, function: Any, agent: Any = None, text: str = "text") -> Any:
    return await call_apart(pool, function, RunContextWrapper({"a": 1}), agent, text)


async def test_a_guardrail_is_asked_with_context_text_and_an_agent_of_that_name(either_pool: ProcessPool) -> None:
    await either_pool.prepare([judges.tell])
    assert await ask(either_pool, judges.tell, RealtimeAgent("ada")) == GuardrailFunctionOutput(
        [{"a": 1}, "ada", "text"], False
    )
    assert await ask(either_pool, judges.tell_later) == GuardrailFunctionOutput([{"a": 1}, None, "text"], False)


async def test_what_was_made_a_guardrail_is_found_under_its_name(either_pool: ProcessPool) -> None:
    assert isinstance(await ask(either_pool, judges.in_a_process.guardrail_function), GuardrailFunctionOutput)


async def test_what_is_no_function_over_there_is_told_so(either_pool: ProcessPool) -> None:
    def lost() -> None: ...

    lost.__module__, lost.__qualname__ = judges.__name__, "NO_FUNCTION"
    with pytest.raises(ToolProcessError, match=r"judges\.NO_FUNCTION is no function there"):
        await ask(either_pool, lost)


async def test_a_process_that_takes_longer_to_import_a_module_than_a_check_may_takes_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed with each check, no process would ever be ready."""
    heavy = heavy_module(monkeypatch, tmp_path)
    (tmp_path / "open").unlink()
    pool = ProcessPool(1)
    for _ in range(3):
        check = asyncio.create_task(ask(pool, heavy.judge))
        await wait_until(lambda: len((tmp_path / "begun").read_text()) >= 2, description="the import", timeout=30)
        check.cancel()
        await asyncio.gather(check, return_exceptions=True)
    (tmp_path / "open").touch()
    assert await ask(pool, heavy.judge) == "text"
    assert len((tmp_path / "begun").read_text()) == 2, "one here, one for the checks"
    pool.close()
