"""Guardrails as authors define them: names, checks at construction, running one."""

import dataclasses
from typing import Any

import pytest

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import check_run_config
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.guardrails import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    input_guardrail,
    output_guardrail,
)
from voicebus.agents.resolve import Resolver
from voicebus.errors import UserError

Context = RunContextWrapper[Any]


def rude(context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"heard": text, "by": agent}, "damn" in text)


class Polite:
    async def __call__(self, context: Context, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, False)


KINDS = pytest.mark.parametrize("kind", [OutputGuardrail, InputGuardrail])


@KINDS
def test_a_guardrail_takes_its_function_and_name_in_order_and_all_else_by_keyword(kind: Any) -> None:
    assert kind(rude).get_name() == "rude"
    assert kind(rude, "manners").get_name() == "manners"
    assert kind(Polite()).get_name() == "Polite"
    with pytest.raises(TypeError):
        kind(rude, "manners", "hold")


@pytest.mark.parametrize("decorator", [output_guardrail, input_guardrail])
def test_a_function_that_is_decorated_gives_its_guardrail_its_name(decorator: Any) -> None:
    """Programs read `result.guardrail.name`."""
    assert decorator(rude).name == "rude"
    assert decorator(mode="hold")(rude).name == "rude"
    assert decorator(Polite()).name == "Polite"
    assert decorator(name="manners")(rude).name == "manners"


@KINDS
@pytest.mark.parametrize("mode", ["observe", "interrupt", "hold"])
def test_each_mode_may_be_chosen(kind: Any, mode: str) -> None:
    assert kind(rude, mode=mode).mode.value == mode


@KINDS
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"guardrail_function": "text"}, "guardrail_function"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"mode": "stop"}, "mode"),
        ({"on_error": "maybe"}, "on_error"),
        ({"on_unavailable": None}, "on_unavailable"),
        ({"policy_hint": " "}, "policy_hint"),
        ({"policy_hint": 7}, "policy_hint"),
        ({"replacement": ""}, "replacement"),
        ({"executor": "gpu"}, "executor"),
        ({"guardrail_function": Polite(), "executor": "process"}, "executor='process'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(kind: Any, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        kind(**{"guardrail_function": rude, **wrong})


@pytest.mark.parametrize("budget", [0, -1, 1.5, True, "1500"])
def test_the_budget_of_a_held_turn_is_a_positive_number_of_ms(budget: Any) -> None:
    with pytest.raises(UserError, match="budget_ms"):
        InputGuardrail(rude, budget_ms=budget)
    assert InputGuardrail(rude).budget_ms == 1500


@KINDS
def test_a_guardrail_cannot_be_changed(kind: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(rude).name = "other"


def test_a_decorator_makes_a_guardrail_with_or_without_arguments() -> None:
    assert output_guardrail(rude) == OutputGuardrail(rude, "rude")
    made = output_guardrail(name="n", mode="hold", on_error="closed", on_unavailable="closed", policy_hint="Be kind.")
    assert made(rude) == OutputGuardrail(
        rude, "n", mode="hold", on_error="closed", on_unavailable="closed", policy_hint="Be kind."
    )
    assert input_guardrail(rude) == InputGuardrail(rude, "rude")
    asked = input_guardrail(
        name="n", mode="hold", on_error="closed", on_unavailable="closed", policy_hint="Ask kindly.", budget_ms=7
    )
    assert asked(rude) == InputGuardrail(
        rude, "n", mode="hold", on_error="closed", on_unavailable="closed", policy_hint="Ask kindly.", budget_ms=7
    )


async def test_running_an_output_guardrail_gives_its_result() -> None:
    result = await OutputGuardrail(rude).run(RunContextWrapper(None), "helper", "damn it")
    assert (result.agent, result.agent_output, result.guardrail) == ("helper", "damn it", OutputGuardrail(rude))
    assert result.output == GuardrailFunctionOutput({"heard": "damn it", "by": "helper"}, True)


async def test_running_an_input_guardrail_gives_its_result() -> None:
    result = await InputGuardrail(rude).run("helper", "good day", RunContextWrapper(None))
    assert (result.guardrail, result.output.tripwire_triggered) == (InputGuardrail(rude), False)


async def test_an_object_with_an_async_call_runs_on_the_loop() -> None:
    assert OutputGuardrail(Polite()).is_async
    result = await OutputGuardrail(Polite()).run(RunContextWrapper(None), None, "")
    assert not result.output.tripwire_triggered


async def test_what_is_no_finding_is_refused() -> None:
    guardrail: Any = OutputGuardrail(lambda context, agent, text: True, "sloppy")  # type: ignore[arg-type, return-value]
    with pytest.raises(UserError, match="'sloppy' returned bool"):
        await guardrail.run(RunContextWrapper(None), None, "")


@pytest.mark.parametrize("window", [0, -5, 1.5, "500", True])
def test_a_window_is_a_positive_number_of_ms_of_a_guardrail_that_holds(window: Any) -> None:
    with pytest.raises(UserError, match="hold_window_ms must be a whole number of ms above 0"):
        OutputGuardrail(rude, mode="hold", hold_window_ms=window)
    with pytest.raises(UserError, match=r"guardrails_settings\.hold_window_ms must be a whole number of ms above 0"):
        check_run_config({"guardrails_settings": {"hold_window_ms": window}})
    with pytest.raises(UserError, match="hold_window_ms needs mode='hold'"):
        OutputGuardrail(rude, hold_window_ms=500)


async def test_a_window_is_the_guardrails_own_or_that_of_the_run_config_and_judges_every_delta() -> None:
    own = OutputGuardrail(rude, "own", mode="hold", hold_window_ms=300)
    given = OutputGuardrail(rude, "given", mode="hold")
    other = OutputGuardrail(rude, "other")
    resolver = Resolver(
        context=RunContextWrapper(None),
        run_config={"guardrails_settings": {"hold_window_ms": 700, "debounce_text_length": 50}},
        model_config={},
        tool_timeout_s=30,
        in_process=True,
        custom_model=False,
    )
    agent: RealtimeAgent[Any] = RealtimeAgent("a", output_guardrails=[own, given, other])
    spec = (await resolver.resolve(agent, snapshot=1, first=True)).spec
    assert [(one.hold_window_ms, one.debounce) for one in spec.guardrails] == [(300, 1), (700, 1), (None, 50)]
    assert spec.hold_window_ms == 700
