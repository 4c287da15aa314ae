"""The one place that runs guardrails of either kind. Whatever they do, the answer is a `GuardrailResult`."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.guardrails import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    evaluate,
    text_is_final,
)
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.runtime.processes import ProcessPool
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)


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
    """Have `guardrail` judge `text`, all that `agent` said so far or was told, within `timeout` s; `final`: no more
    will come.

    A function that is not async runs in `executor` (None: the loop's default one); after the timeout its thread is
    left to end on its own. One that has a process of its own has it from the pool that `processes` gives; after the
    timeout that process is killed. `found` is given the output as it is, before it is made fit to travel.
    """
    name = guardrail.get_name()
    call = evaluate(guardrail, context, agent, text, executor=executor, processes=processes)
    token = text_is_final.set(final)
    try:
        judging = asyncio.create_task(call, name=f"guardrail {name}")
    finally:
        text_is_final.reset(token)
    try:
        await asyncio.wait({judging}, timeout=timeout)
        if not judging.done():
            return GuardrailResult(name=name, tripped=False, error=f"it took longer than {timeout:.3g} s")
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
        judging.cancel()


def _result(name: str, output: GuardrailFunctionOutput) -> GuardrailResult:
    return GuardrailResult(name=name, tripped=bool(output.tripwire_triggered), info=_json(output.output_info))


def _json(info: Any) -> Any:
    """What travels: JSON as it is, anything else as its text."""
    try:
        json.dumps(info)
    except (TypeError, ValueError, RecursionError):
        return str(info)
    return info
