"""`voicebus test`: scenarios held with an agent in this process, or with a gateway; a report, JUnit XML, a status."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from voicebus.adapters.openai_realtime import OpenAIRealtimeConnector
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.client.address import native_address
from voicebus.client.trust import trusting
from voicebus.errors import ScenarioError, SettingsError, UsageError, UserError
from voicebus.testing import (
    Scenario,
    ScenarioResult,
    find_scenarios,
    junit_xml,
    load_scenarios,
    run_scenario,
    run_scenario_at,
)
from voicebus.testing.playing import check_scenario, check_scenario_at
from voicebus.testing.report import summary
from voicebus_services.settings import GatewaySettings, SimulatorSettings, load


@dataclass(frozen=True)
class TestOptions:
    """The command line of `voicebus test`.

    `agent` is a TARGET in process, an agent's name at a gateway. With `url` the conversations are a gateway's; else
    the model is the built-in simulator (`simulator`), or the one that the settings name.
    """

    __test__ = False

    paths: Sequence[Path]
    agent: str | None = None
    url: str | None = None
    api_key: str | None = None
    ca_file: Path | None = None
    simulator: bool = False
    junit: Path | None = None
    as_json: bool = False
    workers: int = 1


async def run_tests(options: TestOptions, *, out: Callable[[str], None]) -> bool:
    """Run the scenarios and report; whether all went as they should.

    Raises:
        UsageError: a file, an agent, a setting or an option is wrong, or no model is named.
    """
    if options.url is not None and options.simulator:
        raise ScenarioError("--url and --simulator exclude each other: a gateway has a model of its own")
    if options.url is None and options.ca_file is not None:
        raise ScenarioError("--ca-file verifies a gateway; give its address with --url")
    if options.url is not None:
        try:
            native_address(options.url, {})
        except UserError as error:
            raise ScenarioError(f"--url: {error}") from error
    tls = None if options.url is None else trusting(options.ca_file, options.url, option="--ca-file")
    scenarios = [scenario for path in find_scenarios(options.paths) for scenario in load_scenarios(path)]
    for scenario in scenarios:  # what cannot be is told before anything runs
        if options.url is None:
            check_scenario(scenario, options.agent)
        else:
            check_scenario_at(scenario)
    results: list[ScenarioResult | None] = [None] * len(scenarios)
    shown = 0

    def done(place: int, result: ScenarioResult) -> None:
        # Reported in the order of the files, each as soon as those before it are.
        nonlocal shown
        results[place] = result
        while shown < len(results) and (next_one := results[shown]) is not None:
            out(json.dumps(next_one.to_json(), ensure_ascii=False) if options.as_json else next_one.report())
            shown += 1

    async with _model(options) as model_config:

        async def run(scenario: Scenario) -> ScenarioResult:
            if options.url is not None:
                return await run_scenario_at(
                    scenario, options.url, agent=options.agent, api_key=options.api_key, tls=tls
                )
            return await run_scenario(scenario, options.agent, model_config=model_config)

        await _run_all(scenarios, run, options.workers, done)
    finished = [result for result in results if result is not None]
    if options.junit is not None:
        _write(options.junit, junit_xml(finished))
    if not options.as_json:
        out(summary(finished))
    return all(result.ok for result in finished)


async def _run_all(
    scenarios: Sequence[Scenario],
    run: Callable[[Scenario], Awaitable[ScenarioResult]],
    workers: int,
    done: Callable[[int, ScenarioResult], None],
) -> None:
    """Run each scenario, `workers` at a time; those that replace tools alone, as others would meet the stand-ins."""
    slots = asyncio.Semaphore(workers)

    async def one(place: int, scenario: Scenario) -> None:
        async with slots:
            done(place, await run(scenario))

    alone = [place for place, scenario in enumerate(scenarios) if scenario.tools]
    async with asyncio.TaskGroup() as group:
        for place, scenario in enumerate(scenarios):
            if place not in alone:
                group.create_task(one(place, scenario), name=f"scenario {scenario.name}")
    for place in alone:
        await one(place, scenarios[place])


@asynccontextmanager
async def _model(options: TestOptions) -> AsyncIterator[RealtimeModelConfig | None]:
    """How sessions in process reach their model; None for a gateway, which has its own.

    Raises:
        SettingsError, UsageError: no model is configured, or the simulator cannot be had.
    """
    if options.url is not None:
        yield None
    elif options.simulator:
        async with _simulator() as url:
            yield {"url": url, "api_key": "simulator"}
    else:
        yield _configured()


@asynccontextmanager
async def _simulator() -> AsyncIterator[str]:
    try:
        from voicebus_services.model_simulator.wiring import simulating
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing; install voicebus[gateway]") from error
    async with simulating(load(SimulatorSettings, http_host="127.0.0.1", http_port=0)) as running:
        yield f"ws://127.0.0.1:{running.server.port}/v1/realtime"


def _configured() -> RealtimeModelConfig:
    """The model of the settings: `VOICEBUS_MODEL_URL`, `VOICEBUS_MODEL_API_KEY` or `OPENAI_API_KEY`, and headers.

    Raises:
        SettingsError: a real provider is addressed without a credential.
    """
    settings = load(GatewaySettings)  # of which only the model's are read
    key = settings.model_api_key.get_secret_value() if settings.model_api_key else os.environ.get("OPENAI_API_KEY")
    try:
        OpenAIRealtimeConnector(settings.model_url, api_key=key, headers=settings.model_headers).require_credentials()
    except SettingsError as error:
        raise SettingsError(f"{error}; or give --simulator") from error
    # A server of one's own asks for no key; a session does.
    config: RealtimeModelConfig = {"url": settings.model_url, "api_key": key or "none"}
    if settings.model_headers:
        bearer = {"Authorization": f"Bearer {key}"} if key else {}
        # With headers of one's own a model adds no key to them.
        config["headers"] = {**bearer, **settings.model_headers}
    return config


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"--junit: {path} cannot be written ({error.strerror})") from error
