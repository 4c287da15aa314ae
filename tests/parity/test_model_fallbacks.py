"""A run config's `model_fallbacks` and `model_token`: the models that a conversation goes on with, in both modes."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from support import tokens
from support.model_server import ModelServer, model_server
from support.simulator import SimulatorHandle, running_simulator
from support.stages import Stage
from voicebus import (
    ModelLinkError,
    RealtimeAgent,
    RealtimeModelConfig,
    RealtimeModelFallback,
    RealtimeRunConfig,
    RealtimeRunner,
    UserError,
)
from voicebus.agents.targets import Targets
from voicebus.testing import ScriptedRealtimeModel
from voicebus_services.gateway.models import Models, models
from voicebus_services.settings import GatewaySettings

NOWHERE: Final = "ws://127.0.0.1:1/v1/realtime"
SETTINGS: Final[Any] = {"output_modalities": ["text"]}


def agent() -> RealtimeAgent[Any]:
    return RealtimeAgent("clerk", instructions="Answer.")


def config(*fallbacks: RealtimeModelFallback, **more: Any) -> RealtimeRunConfig:
    given: Any = {"model_settings": SETTINGS, "model_fallbacks": list(fallbacks), **more}
    return given  # type: ignore[no-any-return]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator() as handle:
        yield handle


@pytest.fixture
async def locked() -> AsyncIterator[SimulatorHandle]:
    """Takes no key that the tests have."""
    async with running_simulator(simulator_api_key="another") as handle:
        yield handle


class Nowhere:
    url = NOWHERE


# --- in both modes ------------------------------------------------------------------------------------


async def test_a_model_that_refuses_leads_to_the_agents_next_one(
    stage: Stage, locked: SimulatorHandle, simulator: SimulatorHandle
) -> None:
    wanted = config({"url": simulator.url, "name": "gpt-realtime-mini"})
    async with stage.conversation(agent(), locked, wanted) as talk:
        await talk.say("[[say: Here I am.]]")
        await talk.until("agent_end", output="Here I am.")
        assert simulator.ledger()[0]["model"] == "gpt-realtime-mini"
        assert [event["cause"] for event in talk.of("model_reconnecting")] == ["fallback"]
        assert talk.of("error") == []


async def test_a_model_that_cannot_be_reached_leads_to_the_agents_next_one(
    stage: Stage, simulator: SimulatorHandle
) -> None:
    async with stage.conversation(agent(), Nowhere(), config({"url": NOWHERE}, {"url": simulator.url})) as talk:
        await talk.say("[[say: Here I am.]]")
        await talk.until("agent_end", output="Here I am.")
        assert talk.of("error") == []


async def test_a_conversation_goes_on_with_a_fallback_where_its_model_is_lost_for_good(
    stage: Stage, simulator: SimulatorHandle
) -> None:
    async with model_server() as first:
        async with stage.conversation(agent(), first, config({"url": simulator.url})) as talk:
            await first.hears("session.update")
            await talk.say("[[say: Here I am.]]")
            await first.hears("response.create")
            first.status = 403
            first.cut()
            await talk.until("agent_end", output="Here I am.")
        assert [line["text"] for line in talk.recorded("item_recorded")] == ["[[say: Here I am.]]", "Here I am."]


async def test_where_every_model_refuses_the_conversation_ends_with_the_last_refusal(
    stage: Stage, locked: SimulatorHandle
) -> None:
    async with stage.conversation(agent(), locked, config({"api_key": "wrong too"})) as talk:
        await talk.until("error")
        await talk.ended.wait()
    assert [event.get("error", event)["code"] for event in talk.of("error")][-1] == "invalid_api_key"
    assert talk.recorded("session_ended")[0]["reason"] == "model_lost"


async def test_a_fallbacks_key_may_come_from_a_function(
    stage: Stage, locked: SimulatorHandle, simulator: SimulatorHandle
) -> None:
    tokens.ASKED.clear()
    async with stage.conversation(
        agent(), locked, config({"url": simulator.url, "api_key": tokens.slow_token})
    ) as talk:
        await talk.say("[[say: Here I am.]]")
        await talk.until("agent_end", output="Here I am.")
    assert tokens.ASKED == ["async"]


# --- what is sent where -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallback", "authorization", "team"),
    [
        ({}, "Bearer first", "blue"),
        ({"api_key": lambda: "second"}, "Bearer second", "blue"),
        ({"headers": {"X-Team": "red"}}, "Bearer test", "red"),
        ({"headers": {"X-Team": "red"}, "api_key": "second"}, "Bearer second", "red"),
        ({"headers": {"Authorization": "Bearer third"}, "api_key": "second"}, "Bearer third", None),
    ],
)
@pytest.mark.parametrize("mode", ["in process", "gateway"])
async def test_a_fallback_is_sent_its_own_credentials_or_the_first_ones(
    mode: str, fallback: RealtimeModelFallback, authorization: str, team: str | None
) -> None:
    headers = {"Authorization": "Bearer first", "X-Team": "blue"}
    async with model_server(status=401) as first, model_server() as second:
        run_config = config({**fallback, "url": second.url})
        if mode == "in process":
            options: RealtimeModelConfig = {"url": first.url, "headers": headers, "api_key": "test"}
            async with await RealtimeRunner(agent(), config=run_config).run(model_config=options):
                await second.hears("session.update")
        else:
            settings = GatewaySettings(model_url=first.url, model_api_key="test", model_headers=headers)
            await dialled(served(settings, run_config), 1)
    asked = second.requests[0].headers
    assert (asked["Authorization"], asked.get("X-Team")) == (authorization, team)


class _Deaf:
    def model_frame(self, frame: bytes) -> None: ...

    def model_lost(self, why: str, close_code: int | None) -> None: ...


def served(settings: GatewaySettings, run_config: RealtimeRunConfig) -> Models:
    targets = Targets(agents={"clerk": agent()}, configs={"clerk": run_config})
    return models(settings, targets.configs).of_agent["clerk"]


async def dialled(ways: Models, address: int) -> None:
    link = await ways.connectors[address].connect(_Deaf(), model="m")
    await link.close()


async def test_a_gateways_own_fallbacks_come_behind_those_of_the_agent() -> None:
    async with model_server() as first, model_server() as second, model_server() as third:
        settings = GatewaySettings(
            model_url=first.url,
            model_api_key="k",
            model_fallbacks=({"url": third.url, "name": "c"},),
        )
        ways = served(settings, config({"url": second.url}))
        for address in range(3):
            await dialled(ways, address)
    assert ways.names("a") == ("a", "a", "c")
    assert [len(server.requests) for server in (first, second, third)] == [1, 1, 1]


async def test_agents_without_models_of_their_own_share_the_gateways() -> None:
    settings = GatewaySettings(model_url=NOWHERE, model_api_key="k")
    reached = models(settings, {"one": {}, "two": {}, "three": {"model_token": tokens.token}})
    one, two, three = (reached.of_agent[name].connectors for name in ("one", "two", "three"))
    assert one == two != three


# --- the token ----------------------------------------------------------------------------------------


def keys_of(server: ModelServer) -> list[str]:
    return [request.headers["Authorization"] for request in server.requests]


async def test_a_run_configs_token_is_asked_for_in_process_unless_the_model_config_has_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOICEBUS_MODEL_API_KEY", "of the environment")
    runner = RealtimeRunner(agent(), config={"model_token": tokens.token})
    async with model_server() as server:
        for options in ({}, {"api_key": "given"}, {"headers": {"Authorization": "Bearer header"}}):
            model_config: Any = {"url": server.url, **options}
            async with await runner.run(model_config=model_config):
                pass
        assert keys_of(server) == ["Bearer test", "Bearer given", "Bearer header"]


async def test_a_run_configs_token_comes_before_the_gateways_key() -> None:
    async with model_server() as server:
        settings = GatewaySettings(model_url=server.url, model_api_key="of the gateway")
        await dialled(served(settings, {"model_token": tokens.slow_token}), 0)
        assert keys_of(server) == ["Bearer test"]


def test_a_gateway_needs_no_key_whose_agents_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert len(served(GatewaySettings(), {"model_token": tokens.token}).connectors) == 1


@pytest.mark.parametrize(
    ("token", "sentence"),
    [(tokens.raising_token, "raised OSError"), (tokens.no_token, "API key is required"), (lambda: 5, "returned int")],
)
async def test_a_program_is_told_what_its_function_did_wrong(token: Any, sentence: str) -> None:
    runner = RealtimeRunner(agent(), config={"model_token": token})
    with pytest.raises((UserError, ModelLinkError), match=sentence):
        async with await runner.run(model_config={"url": NOWHERE}):
            pass


async def test_a_conversation_whose_function_gives_no_key_ends_with_an_error_that_says_so() -> None:
    runner = RealtimeRunner(agent(), config=config({"name": "other"}, model_token=tokens.raising_token))
    codes: list[str] = []

    async def talk() -> None:
        async with await runner.run(model_config={"url": NOWHERE}) as session:
            async for event in session:
                codes.extend([event.error["code"]] if event.type == "error" else [])

    with pytest.raises(ModelLinkError, match=r"^The function that gives the model's key failed\.$"):
        await talk()
    assert codes == ["model_key_unavailable"]


# --- what is refused ----------------------------------------------------------------------------------


async def test_a_model_that_dials_by_itself_has_no_fallbacks() -> None:
    runner = RealtimeRunner(agent(), model=ScriptedRealtimeModel, config=config({"name": "other"}))
    with pytest.raises(UserError, match="run config model_fallbacks is for models of our own"):
        async with await runner.run():
            pass
