"""Scenarios held with agents in this process: each kind of step, what fails, and what cannot be."""

import re
import wave
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.simulator import SimulatorHandle, running_simulator
from voicebus import (
    GuardrailFunctionOutput,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunner,
    UserError,
    function_tool,
)
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.errors import ScenarioError, TargetError
from voicebus.testing import Scenario, ScenarioResult, ScriptedRealtimeModel, StepStatus, run_scenario
from voicebus_services.model_simulator import tape


@function_tool
def get_weather(city: str) -> str:
    """Get the weather."""
    return f"sunny in {city}"


@function_tool(needs_approval=True)
def book_room(guest: str) -> str:
    """Book a room."""
    return f"booked for {guest}"


def no_prices(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered="euro" in text)


@pytest.fixture
def agent() -> RealtimeAgent[Any]:
    desk = RealtimeAgent[Any]("desk", tools=[replace(get_weather), replace(book_room)])
    other = RealtimeAgent[Any]("other", handoffs=[desk])
    desk.handoffs.append(other)
    desk.output_guardrails.append(OutputGuardrail(no_prices))
    return desk


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator() as handle:
        yield handle


@pytest.fixture
def model(simulator: SimulatorHandle) -> RealtimeModelConfig:
    return {"url": simulator.url, "api_key": "test"}


def written(*steps: dict[str, Any], text: bool = True, **fields: Any) -> Scenario:
    settings = {"settings": {"output_modalities": ["text"]}} if text else {}
    return Scenario.model_validate({"steps": list(steps), **settings, **fields})


async def play(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig, *steps: dict[str, Any], **fields: Any
) -> ScenarioResult:
    return await run_scenario(written(*steps, **fields), agent, model_config=model)


async def test_tools_texts_and_handoffs_are_expected(agent: RealtimeAgent[Any], model: RealtimeModelConfig) -> None:
    result = await play(
        agent,
        model,
        {"say": '[[call: get_weather {"city": "Paris"}]][[next]][[say: It is {outputs}]]'},
        {"expect_tool": {"name": "get_weather", "arguments": {"city": "Paris"}, "output": "sunny in Paris"}},
        {"expect_text": {"equals": "It is sunny in Paris"}},
        {"expect_no": {"tool": "get_weather", "for": 0.01}},
        {"expect_no": {"text": "rain", "handoff": "other", "guardrail": "no_prices", "error": ""}},
        {"say": "[[call: transfer_to_other {}]][[next]][[say: Other here]]"},
        {"expect_handoff": {"to": "other", "from": "desk"}},
        {"expect_text": "Other here"},
    )
    result.raise_if_failed()
    assert [step.status for step in result.steps] == [StepStatus.OK] * 8


async def test_calls_are_approved_and_rejected(agent: RealtimeAgent[Any], model: RealtimeModelConfig) -> None:
    call = '[[call: book_room {"guest": "Ann"}]][[next]][[say: {outputs}]]'
    result = await play(
        agent,
        model,
        {"say": call},
        {"reject": {"tool": "book_room", "message": "not today"}},
        {"expect_text": "not today"},
        {"say": call},
        {"approve": {"tool": "book_room", "always": True}},
        {"expect_tool": {"name": "book_room", "outcome": "ok"}},
        {"expect_text": "booked for Ann"},
        {"say": call},
        {"expect_text": "booked for Ann"},
    )
    result.raise_if_failed()


async def test_an_error_is_expected_by_what_it_says(agent: RealtimeAgent[Any], model: RealtimeModelConfig) -> None:
    @function_tool(failure_error_function=None)
    def open_vault() -> str:
        """Open the vault."""
        raise RuntimeError("the vault is locked")

    agent.tools.append(open_vault)
    say = {"say": "[[call: open_vault {}]]"}
    result = await play(agent, model, say, {"expect_error": "vault is locked"})
    result.raise_if_failed()
    result = await play(agent, model, say, {"expect_error": "vault is open", "within": 0.5})
    assert [step.status for step in result.steps] == [StepStatus.OK, StepStatus.FAILED]
    assert result.steps[1].message.count("RuntimeError: the vault is locked") == 1, "what happened instead"


async def test_answers_are_interrupted_and_guardrails_trip(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig
) -> None:
    result = await play(
        agent,
        model,
        {"say": "[[say: This is a long answer, which takes a while to be said by anybody.]]"},
        {"interrupt_after": 10},
        {"expect_interruption": True},
        {"say": "[[say: It costs five euros, and not a cent less than that.]]"},
        {"expect_guardrail": "no_prices"},
        {"wait": 0.01},
        text=False,
    )
    result.raise_if_failed()


async def test_a_text_answer_is_interrupted_by_its_words(agent: RealtimeAgent[Any], model: RealtimeModelConfig) -> None:
    result = await play(agent, model, {"say": "[[say: Well, then.]]"}, {"interrupt_after": {"ms": 0, "of": "words"}})
    result.raise_if_failed()


async def test_sound_is_spoken(agent: RealtimeAgent[Any], model: RealtimeModelConfig, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "question.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes(tape.record("[[say: I heard you]]"))
    scenario = written(
        {"say_audio": "question.wav"},
        {"expect_text": {"contains": "heard", "role": "user"}},
        {"expect_text": "I heard you"},
    )
    scenario.place = (tmp_path / "a.scenario.yaml", 1)
    (await run_scenario(scenario, agent, model_config=model)).raise_if_failed()


@pytest.mark.parametrize(
    ("rate", "content", "sentence"),
    [
        (16_000, b"\0\0" * 100, "has 16 bit, 1 channel(s), 16000 Hz; 16 bit mono at 24000 Hz is needed"),
        (24_000, None, "is no WAV file"),
        (0, None, "cannot be read (No such file or directory)"),
    ],
)
async def test_sound_that_cannot_be_used_is_told_before_anything_is_dialled(
    agent: RealtimeAgent[Any], tmp_path: Path, rate: int, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "question.wav"
    if content is not None:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(content)
    elif rate:
        path.write_bytes(b"no sound")
    scripted = ScriptedRealtimeModel()
    with pytest.raises(ScenarioError) as caught:
        await run_scenario(written({"say_audio": str(path)}), agent, model=scripted)
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)
    assert not scripted.connect_calls


async def test_stand_ins_answer_instead_of_tools_and_only_for_the_scenario(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig
) -> None:
    call = {"say": '[[call: get_weather {"city": "Paris"}]][[next]][[say: {outputs}]]'}
    for tools, text in (
        ({"get_weather": {"returns": {"condition": "foggy"}}}, "foggy"),
        ({"get_weather": {"raises": "no weather today"}}, "no weather today"),
        ({}, "sunny in Paris"),
    ):
        (await play(agent, model, call, {"expect_text": text}, tools=tools)).raise_if_failed()
    with pytest.raises(UserError, match="no agent has a tool 'get_wether'"):
        await play(agent, model, call, tools={"get_wether": {"returns": 1}})


async def test_the_first_step_that_fails_ends_the_scenario_and_tells_what_happened(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig
) -> None:
    result = await play(
        agent,
        model,
        {"say": "[[say: No idea]]"},
        {"expect_text": "idea"},
        {"expect_tool": "get_weather", "within": 0.05},
        {"expect_text": "sunny"},
    )
    assert not result.ok
    assert [step.status for step in result.steps] == [
        StepStatus.OK,
        StepStatus.OK,
        StepStatus.FAILED,
        StepStatus.SKIPPED,
    ]
    assert "expected a call of get_weather; it did not come within 0.05 s" in result.why
    assert "assistant: 'No idea'" in result.why
    with pytest.raises(AssertionError, match="FAILED  expect_tool get_weather"):
        result.raise_if_failed()


async def test_what_was_said_before_does_not_fulfil_what_is_expected_after(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig
) -> None:
    result = await play(
        agent,
        model,
        {"say": "[[say: One]]"},
        {"expect_text": "One"},
        {"say": "[[say: Two]]"},
        {"expect_text": "Two"},
        {"expect_text": "One", "within": 0.05},
    )
    assert [step.status for step in result.steps][-1] is StepStatus.FAILED


async def test_a_model_that_cannot_be_reached_is_a_result_not_an_error(agent: RealtimeAgent[Any]) -> None:
    config: RealtimeModelConfig = {"url": "ws://127.0.0.1:1/v1/realtime", "api_key": "test"}
    result = await play(agent, config, {"say": "hi"})
    assert not result.ok
    assert result.problem.startswith("the conversation could not be held: ModelLinkError: ")
    scripted = ScriptedRealtimeModel(connect_error=RuntimeError("a bug"))
    result = await run_scenario(written({"say": "hi"}), agent, model=scripted)
    assert re.fullmatch(
        r"the conversation could not be held: RuntimeError: a bug \(at scripted_model\.py:\d+\)", result.problem
    )


@pytest.mark.parametrize("given", [{}, {"name": "Ann"}, None])
async def test_an_empty_context_is_one_and_without_one_there_is_none(given: dict[str, str] | None) -> None:
    desk = RealtimeAgent[Any]("desk", instructions=lambda context, _: repr(context.context))
    scripted = ScriptedRealtimeModel(strict=False)
    scenario = written({"wait": 0}, context=given)
    (await run_scenario(scenario, desk, model=scripted)).raise_if_failed()
    assert scripted.connect_calls[0]["initial_model_settings"]["instructions"] == repr(given)


async def test_the_context_is_that_of_the_session(model: RealtimeModelConfig) -> None:
    desk = RealtimeAgent[Any]("desk", instructions=lambda context, _: f"Serve {context.context['name']}.")
    scripted = ScriptedRealtimeModel(strict=False)
    scenario = written({"wait": 0}, context={"name": "Ann"})
    (await run_scenario(scenario, desk, model=scripted)).raise_if_failed()
    settings = scripted.connect_calls[0]["initial_model_settings"]
    assert settings["instructions"] == "Serve Ann."
    assert settings["output_modalities"] == ["text"]


async def test_the_agent_is_a_target_an_agent_or_a_runner(
    agent: RealtimeAgent[Any], model: RealtimeModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ({"say": "[[say: hello]]"}, {"expect_text": "hello"})
    (await run_scenario(written(*steps), RealtimeRunner(agent), model_config=model)).raise_if_failed()
    (await run_scenario(written(*steps, agent="examples.front_desk:runner"), model_config=model)).raise_if_failed()
    (await run_scenario(written(*steps, agent="nowhere"), agent, model_config=model)).raise_if_failed()
    with pytest.raises(TargetError, match="nowhere"):
        await run_scenario(written(*steps, agent="nowhere"), model_config=model)
    with pytest.raises(ScenarioError, match="no agent is named"):
        await run_scenario(written(*steps), model_config=model)


async def test_a_file_of_several_scenarios_is_not_one_scenario(agent: RealtimeAgent[Any], tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("steps: [{wait: 0}]\n---\nsteps: [{wait: 0}]\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match="holds 2 scenarios"):
        await run_scenario(path, agent)
    path.write_text("name: A\nsteps: [{wait: 0}]\n", encoding="utf-8")
    result = await run_scenario(str(path), agent, model=ScriptedRealtimeModel())
    assert result.ok
    assert result.scenario.name == "A"


async def test_settings_that_cannot_be_are_the_authors_error(agent: RealtimeAgent[Any]) -> None:
    scenario = written({"wait": 0}, text=False, settings={"no_such_setting": 1})
    with pytest.raises(UserError, match="no_such_setting"):
        await run_scenario(scenario, agent, model=ScriptedRealtimeModel())
