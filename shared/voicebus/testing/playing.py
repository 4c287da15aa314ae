"""Holding the conversation of a scenario: with an agent in this process, or with a gateway."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.targets import load_targets
from voicebus.agents.wire_settings import wire_session
from voicebus.errors import ScenarioError, UsageError, VoicebusError
from voicebus.telemetry.logging import raised
from voicebus.testing.expectations import Expectation, ExpectationFailed
from voicebus.testing.gateway_call import GatewayCall
from voicebus.testing.mocks import mock_tools
from voicebus.testing.recording import Recording, recorded
from voicebus.testing.report import ScenarioResult, StepResult, StepStatus
from voicebus.testing.scenario import ExpectNo, ExpectTool, Scenario, StandIn, Step
from voicebus.testing.scenario_file import load_scenarios
from voicebus.testing.sound import SILENCE, read_wav

_CHUNK = 4800  # bytes: 100 ms of PCM16

Agent = str | RealtimeAgent[Any] | RealtimeRunner
"""A TARGET (`module:attribute`), an agent or a runner."""


class Conversation(Protocol):
    """What a scenario needs of a session; `RealtimeSession` and `GatewayCall` have it."""

    async def send_message(self, message: str, /) -> None: ...
    async def send_audio(self, audio: bytes, /, *, commit: bool = False) -> None: ...
    async def interrupt(self) -> None: ...
    async def approve_tool_call(self, call_id: str, /, *, always: bool = False) -> None: ...
    async def reject_tool_call(
        self, call_id: str, /, *, always: bool = False, rejection_message: str | None = None
    ) -> None: ...


async def run_scenario(
    scenario: Scenario | str | Path,
    agent: Agent | None = None,
    *,
    model: RealtimeModel | None = None,
    model_config: RealtimeModelConfig | None = None,
) -> ScenarioResult:
    """Hold a scenario's conversation with an agent in this process.

    `scenario` may be the path of a file that holds one. `agent` replaces the scenario's own. `model` and
    `model_config` are those of `RealtimeRunner`; without them the model is OpenAI's, and `OPENAI_API_KEY` its key.
    What goes wrong in the conversation is in the result:

        result = await run_scenario("front_desk.scenario.yaml", runner, model_config={"url": simulator_url})
        result.raise_if_failed()

    Raises:
        ScenarioError: the file is wrong or holds several scenarios, or something as `check_scenario` says.
        UserError, TargetError: `agent` cannot be.
    """
    if not isinstance(scenario, Scenario):
        found = load_scenarios(scenario)
        if len(found) > 1:
            raise ScenarioError(f"{scenario}: holds {len(found)} scenarios; load_scenarios gives them one by one")
        scenario = found[0]
    check_scenario(scenario, agent)
    sounds = _sounds(scenario)
    runner = runner_for(scenario, agent, model)
    config: RealtimeModelConfig = {**(model_config or {})}
    if scenario.settings:
        config["initial_model_settings"] = {**config.get("initial_model_settings", {}), **scenario.settings}  # type: ignore[typeddict-item]
    with _mocked(scenario, runner):
        return await _held(scenario, _in_process(runner, scenario, config), sounds)


async def run_scenario_at(
    scenario: Scenario,
    url: str,
    *,
    agent: str | None = None,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> ScenarioResult:
    """Hold a scenario's conversation with the gateway at `url`, as `GatewayCall` reaches it.

    The agent is the gateway's: `agent` by its name, or the default one. `tls` verifies the gateway in place of what
    this machine trusts.

    Raises:
        ScenarioError: as `check_scenario_at`.
    """
    check_scenario_at(scenario)
    return await _held(scenario, _at_gateway(url, agent, api_key, tls), _sounds(scenario))


def check_scenario(scenario: Scenario, agent: Agent | None = None) -> None:
    """Find what cannot be before anything runs. `agent` replaces the scenario's own.

    Raises:
        ScenarioError: no agent is named, or it is not there; a setting cannot be; a tool to be replaced does not exist;
            a sound is missing. It names the file and the line.
        UserError, TargetError: `agent` cannot be; or one of these, for a scenario that is from no file.
    """
    runner = runner_for(scenario, agent)
    with _naming(scenario, "settings"):
        wire_session(scenario.settings)
    with _naming(scenario, "tools"), _mocked(scenario, runner):
        pass
    _sounds(scenario)


def check_scenario_at(scenario: Scenario) -> None:
    """The same for a scenario that a gateway is to hold.

    Raises:
        ScenarioError: it has settings, a context or tools to replace, which are the gateway's own; a sound is missing.
    """
    for name in ("settings", "context", "tools"):
        if getattr(scenario, name):
            raise ScenarioError(f"{scenario.where(name)}cannot be had from a gateway; it needs an agent in process")
    _sounds(scenario)


@contextmanager
def _naming(scenario: Scenario, field: str) -> Iterator[None]:
    """What is wrong with a field is told with its place."""
    try:
        yield
    except UsageError as error:
        if scenario.place[0] is None:
            raise
        message = str(error).removeprefix("mock_tools: ").removeprefix("model_settings ")
        raise ScenarioError(f"{scenario.where(field)}{message}") from error


@asynccontextmanager
async def _in_process(
    runner: RealtimeRunner, scenario: Scenario, config: RealtimeModelConfig
) -> AsyncIterator[tuple[Conversation, AsyncIterable[Any]]]:
    session = await runner.run(context=scenario.context, model_config=config or None)
    async with session:
        yield session, session


@asynccontextmanager
async def _at_gateway(
    url: str, agent: str | None, api_key: str | None, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[Conversation, AsyncIterable[Any]]]:
    async with GatewayCall(url, agent=agent, api_key=api_key, tls=tls) as call:
        yield call, call


async def _held(scenario: Scenario, opening: Any, sounds: Mapping[str, bytes]) -> ScenarioResult:
    began = time.monotonic()
    steps: list[StepResult] = []
    problem = ""
    try:
        async with opening as (conversation, events), recorded(events) as recording:
            play = _Play(scenario, conversation, recording, sounds)
            steps = [await play.step(step) for step in scenario.steps]
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - an author's model and callbacks may raise anything; the result tells
        problem = f"the conversation could not be held: {type(error).__name__}: {error}"
        if not isinstance(error, VoicebusError):  # a function of the author's, which is not to be searched for
            problem += f" (at {raised(error)['at']})"
    return ScenarioResult(scenario, tuple(steps), _since(began), problem)


class _Play:
    """One conversation, step by step."""

    def __init__(
        self, scenario: Scenario, conversation: Conversation, recording: Recording, sounds: Mapping[str, bytes]
    ) -> None:
        self._scenario = scenario
        self._conversation = conversation
        self._recording = recording
        self._sounds = sounds
        self._failed = False

    async def step(self, step: Step) -> StepResult:
        """Take a step, unless one before has failed."""
        if self._failed:
            return StepResult(step, StepStatus.SKIPPED)
        began = time.monotonic()
        try:
            await self._take(step)
        except ExpectationFailed as error:
            message = str(error)
        except UsageError:
            raise
        except (VoicebusError, OSError) as error:
            message = f"{str(error) or type(error).__name__}\nwhat happened:\n{self._recording.timeline()}"
        else:
            return StepResult(step, StepStatus.OK, _since(began))
        self._failed = True
        return StepResult(step, StepStatus.FAILED, _since(began), message)

    async def _take(self, step: Step) -> None:
        events, talk = self._recording, self._conversation
        within = step.within if step.within is not None else self._scenario.within
        if step.say is not None:
            events.mark()
            await talk.send_message(step.say)
        elif step.say_audio is not None:
            events.mark()
            await self._speak(self._sounds[step.say_audio.file], commit=step.say_audio.commit)
        elif step.interrupt_after is not None:
            begun = events.expect_audio() if step.interrupt_after.of == "sound" else events.expect_text()
            await begun.within(within)
            await asyncio.sleep(step.interrupt_after.ms / 1000)
            await talk.interrupt()
        elif step.approve is not None:
            asked = await events.expect_approval(step.approve.tool).within(within)
            await talk.approve_tool_call(asked.data["call_id"], always=step.approve.always)
        elif step.reject is not None:
            asked = await events.expect_approval(step.reject.tool).within(within)
            await talk.reject_tool_call(
                asked.data["call_id"], always=step.reject.always, rejection_message=step.reject.message
            )
        elif step.wait is not None:
            await asyncio.sleep(step.wait)
        elif step.expect_no is not None:
            await events.expect_no(*_unwanted(events, step.expect_no)).within(step.expect_no.for_)
        else:
            await _expectation(events, step).within(within)

    async def _speak(self, samples: bytes, *, commit: bool) -> None:
        sound = samples if commit else samples + SILENCE
        for start in range(0, len(sound), _CHUNK):
            last = start + _CHUNK >= len(sound)
            await self._conversation.send_audio(sound[start : start + _CHUNK], commit=commit and last)


def _expectation(events: Recording, step: Step) -> Expectation:
    if step.expect_tool is not None:
        return _tool(events, step.expect_tool)
    if step.expect_text is not None:
        wanted = step.expect_text
        return events.expect_text(wanted.contains, matching=wanted.matches, equal_to=wanted.equals, role=wanted.role)
    if step.expect_handoff is not None:
        return events.expect_handoff(step.expect_handoff.to, from_=step.expect_handoff.from_)
    if step.expect_guardrail is not None:
        return events.expect_guardrail(step.expect_guardrail)
    if step.expect_error is not None:
        return events.expect_error(step.expect_error)
    return events.expect_interruption()


def _tool(events: Recording, wanted: ExpectTool) -> Expectation:
    expectation = events.expect_tool(wanted.name).with_arguments(wanted.arguments)
    if "output" in wanted.model_fields_set:
        expectation.with_output(wanted.output)
    if wanted.outcome is not None:
        expectation.with_outcome(wanted.outcome)
    return expectation


def _unwanted(events: Recording, step: ExpectNo) -> Iterable[Expectation]:
    if step.tool is not None:
        yield events.expect_tool(step.tool)
    if step.text is not None:
        yield events.expect_text(step.text)
    if step.handoff is not None:
        yield events.expect_handoff(step.handoff)
    if step.guardrail is not None:
        yield events.expect_guardrail(step.guardrail)
    if step.error is not None:
        yield events.expect_error(step.error)


def runner_for(scenario: Scenario, agent: Agent | None = None, model: RealtimeModel | None = None) -> RealtimeRunner:
    """What holds the scenario's conversation: `agent`, else the one that it names.

    Raises:
        ScenarioError: no agent is named, or the scenario's is not there.
        TargetError: `agent` is not there.
    """
    chosen = agent if agent is not None else scenario.agent
    if chosen is None:
        raise ScenarioError(f"{scenario.where()}no agent is named; give `agent: module:attribute`, or another one")
    if isinstance(chosen, str):
        with _naming(scenario, "agent") if agent is None else nullcontext():
            targets = load_targets([chosen])
        name = targets.default_agent
        return RealtimeRunner(targets.agents[name], model=model, config=targets.configs[name])
    if isinstance(chosen, RealtimeAgent):
        return RealtimeRunner(chosen, model=model)
    return chosen if model is None else RealtimeRunner(chosen.starting_agent, model=model, config=chosen.config)


def _mocked(scenario: Scenario, runner: RealtimeRunner) -> AbstractContextManager[Any]:
    if not scenario.tools:
        return nullcontext()
    return mock_tools(runner, {name: _stand_in(each) for name, each in scenario.tools.items()})


def _stand_in(each: StandIn) -> Any:
    return each.returns if each.raises is None else RuntimeError(each.raises)


def _sounds(scenario: Scenario) -> dict[str, bytes]:
    """What is spoken, read before anything is dialled."""
    folder = scenario.place[0].parent if scenario.place[0] is not None else Path()
    sounds: dict[str, bytes] = {}
    for number, step in enumerate(scenario.steps, 1):
        if step.say_audio is None or (name := step.say_audio.file) in sounds:
            continue
        try:
            sounds[name] = read_wav(folder / name)
        except ScenarioError as error:
            path, line = step.place
            place = f"{path}:{line}: step {number}: " if path is not None else ""
            raise ScenarioError(f"{place}say_audio: {error}") from error
    return sounds


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
