"""Guardrails that judge by a `run` of their own, or are given up: what those do after that is nobody's business."""

import asyncio
import dataclasses
import gc
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from voicebus import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    OutputGuardrailResult,
    RealtimeAgent,
    RealtimeEventInfo,
    RealtimeGuardrailTripped,
    RunContextWrapper,
)
from voicebus.agents.judge import judge


async def test_what_a_guardrail_raises_after_its_time_is_no_complaint_of_the_event_loop() -> None:
    async def stubborn(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("its client was closed under it") from None
        raise AssertionError

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told["message"]))
    result = await judge(OutputGuardrail(stubborn, name="stubborn"), RunContextWrapper(None), None, "x", timeout=0)
    assert result.timed_out
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_what_a_guardrail_raised_as_its_session_ended_is_no_complaint_of_the_event_loop() -> None:
    async def hasty(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        raised.set()
        raise RuntimeError("nobody waits for it any more")

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told["message"]))
    raised = asyncio.Event()
    call = judge(OutputGuardrail(hasty, name="hasty"), RunContextWrapper(None), None, "x", timeout=60)
    judging = asyncio.create_task(call)
    await raised.wait()
    judging.cancel()
    await asyncio.wait({judging})
    assert judging.cancelled()
    del call, judging
    gc.collect()
    assert complaints == []


async def test_a_run_of_the_authors_own_judges_in_the_rooms_of_its_process() -> None:
    def where(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(threading.current_thread().name, False)

    class Strict(OutputGuardrail[Any]):
        async def run(self, context: Any, agent: Any, agent_output: Any) -> OutputGuardrailResult:
            result = await super().run(context, agent, agent_output)
            return dataclasses.replace(result, output=dataclasses.replace(result.output, tripwire_triggered=True))

    with ThreadPoolExecutor(1, thread_name_prefix="judging") as executor:
        result = await judge(Strict(where), RunContextWrapper(None), None, "x", timeout=10, executor=executor)
    assert (result.tripped, result.info) == (True, "judging_0")


@pytest.mark.parametrize("answer", [None, GuardrailFunctionOutput(None, True)])
async def test_a_run_that_gives_no_result_is_an_error_that_says_so(answer: Any) -> None:
    class Odd(InputGuardrail[Any]):
        async def run(self, agent: Any, input: Any, context: Any) -> Any:  # noqa: A002 - as it is called
            return answer

    result = await judge(Odd(lambda *_: answer, name="odd"), RunContextWrapper(None), None, "x", timeout=10)
    wanted = "an object whose output is a GuardrailFunctionOutput"
    assert result.error == f"UserError: guardrail 'odd': run returned {type(answer).__name__}, not {wanted}"


class Detached:
    """As a row of a database whose session is closed."""

    def __repr__(self) -> str:
        raise RuntimeError("it is bound to no session any more")


@pytest.mark.parametrize(
    ("info", "told"), [({"row": Detached()}, "dict"), (Detached(), "Detached"), ([10**5000], "list")]
)
async def test_what_has_no_text_keeps_no_guardrail_from_tripping(info: Any, told: str) -> None:
    async def trips(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(info, tripwire_triggered=True)

    result = await judge(OutputGuardrail(trips, name="trips"), RunContextWrapper(None), None, "x", timeout=60)
    assert (result.tripped, result.info, result.error) == (True, told, None)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"\udc00": "half \ud83d"}, {"?": "half ?"}),
        (nested(254), nested(254)),
        (nested(255), str(nested(255))),
        (nested(5000), "list"),
    ],
    ids=["half of a pair in a name", "nested as deeply as may be", "nested more deeply", "without end"],
)
async def test_whatever_a_guardrail_has_found_its_result_can_be_sent(info: Any, told: Any) -> None:
    async def trips(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(info, tripwire_triggered=True)

    result = await judge(OutputGuardrail(trips, name="trips"), RunContextWrapper(None), None, "x", timeout=60)
    assert result.tripped
    assert result.model_dump(mode="json")["info"] == told


class Found(BaseModel):
    word: str
    on: date


@dataclass
class Place:
    found: Found
    shares: list[float]


CIRCLE: dict[str, Any] = {}
CIRCLE["again"] = CIRCLE


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (Found(word="vault", on=date(2026, 1, 2)), {"word": "vault", "on": "2026-01-02"}),
        (
            Place(Found(word="vault", on=date(2026, 1, 2)), [0.5, math.nan, -math.inf]),
            {"found": {"word": "vault", "on": "2026-01-02"}, "shares": [0.5, None, None]},
        ),
        ({1: Decimal("1.10")}, {"1": "1.10"}),
        (CIRCLE, "{'again': {...}}"),
    ],
    ids=["a model", "a dataclass with what JSON has no number for", "a decimal", "what holds itself"],
)
async def test_what_a_guardrail_has_found_is_told_alike_by_its_verdict_and_by_the_event(info: Any, told: Any) -> None:
    """An event of a session in process tells what the native face sends, which is what the verdict carries."""

    async def trips(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(info, tripwire_triggered=True)

    guardrail: OutputGuardrail[Any] = OutputGuardrail(trips)
    context: RunContextWrapper[Any] = RunContextWrapper(None)
    verdict = await judge(guardrail, context, None, "x", timeout=60)
    assert verdict.model_dump(mode="json")["info"] == told
    result = await guardrail.run(context, RealtimeAgent("a"), "x")
    event = RealtimeGuardrailTripped([result], "x", info=RealtimeEventInfo(context))
    assert event.to_json()["info"] == {"trips": told}


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (SilentError(), "RuntimeError: SilentError, which does not say of what"),
        (SystemExit(1), "RuntimeError: the guardrail raised SystemExit"),
    ],
)
async def test_whatever_a_run_of_the_authors_own_raises_is_an_error_of_the_guardrail(
    raised: BaseException, told: str
) -> None:
    class Own(OutputGuardrail[Any]):
        async def run(self, context: Any, agent: Any, agent_output: Any) -> OutputGuardrailResult:
            raise raised

    guardrail = Own(lambda context, agent, text: GuardrailFunctionOutput(None, tripwire_triggered=False), name="own")
    result = await judge(guardrail, RunContextWrapper(None), None, "x", timeout=60)
    assert (result.tripped, result.error) == (False, told)
