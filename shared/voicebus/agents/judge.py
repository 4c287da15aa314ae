"""The one place that runs guardrails of either kind. Whatever they do, the answer is a `GuardrailResult`."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any, Final, TypeVar

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.findings import told
from voicebus.agents.functions import call_function, give_up
from voicebus.agents.guardrails import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    Rooms,
    rooms,
    text_is_final,
)
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.errors import UserError
from voicebus.runtime.processes import ProcessPool
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

T = TypeVar("T")

TOGETHER_S: Final = 0.002
"""What is judged within this time of one another is told together."""


async def side_by_side(
    judging: Mapping[str, Coroutine[Any, Any, T]],
) -> AsyncGenerator[tuple[list[T], list[str]]]:
    """Have guardrails (by name) judge at the same time: the results as they come, with the names of those that judge
    still. None waits for a slower one. Close it to have the rest cancelled.
    """
    tasks = {asyncio.create_task(work, name=f"judging {name}"): name for name, work in judging.items()}
    waiting = set(tasks)
    if not waiting:
        yield [], []
    try:
        while waiting:
            _, slower = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if slower:
                await asyncio.wait(slower, timeout=TOGETHER_S)
            done = [task for task in tasks if task in waiting and task.done()]
            waiting -= set(done)
            yield [task.result() for task in done], [name for task, name in tasks.items() if task in waiting]
    finally:
        for task in waiting:
            task.cancel()


async def judge(
    guardrail: OutputGuardrail[Any] | InputGuardrail[Any],
    context: RunContextWrapper[Any],
    agent: Any,
    text: str,
    *,
    final: bool = True,
    timeout: float,  # noqa: ASYNC109 - becomes a result, not an exception
    executor: Executor | None = None,
    processes: Callable[[], ProcessPool] | None = None,
    found: Callable[[GuardrailFunctionOutput], None] | None = None,
) -> GuardrailResult:
    """Have `guardrail` judge `text`, all that `agent` said so far or was told, within `timeout` s or its own budget, if
    that is less; `final`: no more will come.

    A function that is not async runs in `executor` (None: the loop's default one); after the timeout its thread is
    left to end on its own. One that has a process of its own has it from the pool that `processes` gives; after the
    timeout that process is killed. `found` is given the output as it is, before it is made fit to travel.
    """
    name = guardrail.get_name()
    if isinstance(guardrail, OutputGuardrail) and guardrail.budget_ms is not None:
        timeout = min(timeout, guardrail.budget_ms / 1000)
    surroundings = copy_context()
    surroundings.run(text_is_final.set, final)
    surroundings.run(rooms.set, Rooms(executor, processes))
    call = _find(guardrail, context, agent, text)
    judging = asyncio.create_task(call, name=f"guardrail {name}", context=surroundings)
    try:
        await asyncio.wait({judging}, timeout=timeout)
        if not judging.done():
            why = f"it took longer than {timeout:.3g} s"
            return GuardrailResult(name=name, tripped=False, error=why, timed_out=True)
        if judging.cancelled():
            return GuardrailResult(name=name, tripped=False, error="it was cancelled")
        error = judging.exception()
        if error is not None:
            log.warning("guardrail raised", guardrail=name, **raised(error))
            return GuardrailResult(name=name, tripped=False, error=f"{type(error).__name__}: {error}")
        if found is not None:
            found(judging.result())
        return _result(name, judging.result())
    finally:
        give_up(judging)


async def _find(
    guardrail: OutputGuardrail[Any] | InputGuardrail[Any], context: RunContextWrapper[Any], agent: Any, text: str
) -> GuardrailFunctionOutput:
    """By its `run`, which may be that of a class of the author's."""
    arguments = (context, agent, text) if isinstance(guardrail, OutputGuardrail) else (agent, text, context)
    result = await call_function(guardrail.run, arguments, {}, is_async=True, executor=None, what="guardrail")
    output = getattr(result, "output", None)
    if not isinstance(output, GuardrailFunctionOutput):
        wanted = "an object whose output is a GuardrailFunctionOutput"
        raise UserError(f"guardrail {guardrail.get_name()!r}: run returned {type(result).__name__}, not {wanted}")
    return output


def _result(name: str, output: GuardrailFunctionOutput) -> GuardrailResult:
    return GuardrailResult(name=name, tripped=bool(output.tripwire_triggered), info=told(output.output_info))
