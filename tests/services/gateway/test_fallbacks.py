"""A gateway whose first model refuses goes on with the next, with the conversation that there was."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from services.gateway.clients import native
from services.gateway.conftest import Gateways
from support import tokens
from support.model_server import ModelServer, model_server
from support.simulator import SimulatorHandle, running_simulator
from support.tokens import ASKED
from support.waiting import wait_until
from voicebus.errors import SettingsError
from voicebus_services.gateway.models import models
from voicebus_services.settings import GatewaySettings, load


@pytest.fixture
async def locked() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator(simulator_api_key="another") as handle:
        yield handle


async def test_a_refused_key_leads_to_the_next_model(
    gateways: Gateways, locked: SimulatorHandle, simulator: SimulatorHandle
) -> None:
    fallback = {"url": simulator.url, "name": "gpt-realtime-mini"}
    async with gateways(model_url=locked.url, model_fallbacks=(fallback,)) as gateway, native(gateway) as client:
        await client.until("model_reconnecting", cause="fallback")
        await client.until("model_reconnected")
        await client.send("send_message", text="[[say: Here I am.]]")
        await client.until("agent_end", output="Here I am.")
        assert simulator.ledger()[0]["model"] == "gpt-realtime-mini"


async def test_a_model_that_cannot_be_reached_leads_to_the_next_one(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    fallback = {"url": simulator.url}
    async with (
        gateways(model_url="ws://127.0.0.1:1/v1/realtime", model_fallbacks=(fallback,)) as gateway,
        native(gateway) as client,
    ):
        await client.until("model_reconnected")
        await client.send("send_message", text="[[say: Here I am.]]")
        await client.until("agent_end", output="Here I am.")


async def cutting(server: ModelServer) -> None:
    """Begin each answer that is asked for, and cut the connection in it."""
    for count in itertools.count(1):
        await server.hears("response.create", count)
        await server.say({"type": "response.created", "response": {"id": f"resp_{count}", "status": "in_progress"}})
        await asyncio.sleep(0.05)
        server.cut()


async def test_a_model_that_cuts_the_answers_of_three_sessions_is_left_alone_by_the_next(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    async with (
        model_server() as broken,
        gateways(model_url=broken.url, model_fallbacks=({"url": simulator.url},)) as gateway,
    ):
        cuts = asyncio.create_task(cutting(broken))
        dialled = []
        for _ in range(4):
            async with native(gateway) as client:
                await client.send("send_message", text="[[say: Here I am.]]")
                await client.until("agent_end", output="Here I am.")
            dialled.append(len(broken.requests))
        cuts.cancel()
    assert dialled[:2] == [3, 6]
    assert dialled[3] - dialled[2] <= 1, "after a rest one attempt is let through"


async def test_where_every_model_refuses_the_session_ends_with_an_error(
    gateways: Gateways, locked: SimulatorHandle
) -> None:
    async with (
        gateways(model_url=locked.url, model_fallbacks=({"name": "gpt-realtime-mini"},)) as gateway,
        native(gateway) as client,
    ):
        assert await client.closed() == 1011
    assert [event["code"] for event in client.events("error")][-1] == "invalid_api_key"
    assert client.seen[-1]["reason"] == "model_lost"


async def test_a_session_is_of_the_model_that_the_gateways_address_names(gateways: Gateways) -> None:
    async with (
        model_server() as server,
        gateways(model_url=f"{server.url}?model=deployed", model_name="another") as gateway,
        native(gateway),
    ):
        assert (await server.hears("session.update"))["session"]["model"] == "deployed"


@pytest.mark.parametrize("name", ["token", "slow_token"])
async def test_a_function_gives_the_key_at_each_dialling(
    gateways: Gateways, simulator: SimulatorHandle, name: str
) -> None:
    ASKED.clear()
    given = {"model_api_key": None, "model_token": f"support.tokens:{name}"}
    async with gateways(**given) as gateway, native(gateway) as client:
        await client.until("history_updated")
        await wait_until(lambda: bool(simulator.hub.sessions), description="the model's session")
        simulator.cut()
        await client.until("model_reconnected")
    assert len(ASKED) == 2


@pytest.mark.parametrize("name", ["raising_token", "stuck_token", "endless_token", "no_token", "empty_token"])
async def test_a_function_that_gives_no_key_ends_the_session_with_an_error_that_says_so(
    gateways: Gateways, simulator: SimulatorHandle, name: str
) -> None:
    """It is asked three times; a gateway whose loop it blocked would not answer."""
    tokens.RELEASE.clear()
    given = {"model_token": f"support.tokens:{name}", "model_connect_timeout": 0.05}
    try:
        async with gateways(**given) as gateway, native(gateway) as client:
            assert await client.closed() == 1011
    finally:
        tokens.RELEASE.set()
    (error,) = client.events("error")
    assert error["code"] == "model_key_unavailable"
    assert error["message"] == "The function that gives the model's key failed."
    assert client.seen[-1]["reason"] == "model_lost"
    assert simulator.ledger() == [], "nothing was dialled"


async def test_a_function_that_gives_no_key_leads_to_a_model_with_a_key_of_its_own(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    given = {"model_token": "support.tokens:raising_token", "model_fallbacks": ({"api_key": "its own"},)}
    async with gateways(**given) as gateway, native(gateway) as client:
        await client.until("model_reconnected")
        await client.send("send_message", text="[[say: Here I am.]]")
        await client.until("agent_end", output="Here I am.")


async def test_a_token_that_is_over_ends_the_session_at_once(gateways: Gateways, locked: SimulatorHandle) -> None:
    ASKED.clear()
    async with gateways(model_url=locked.url, model_token="support.tokens:token") as gateway, native(gateway) as client:
        assert await client.closed() == 1011
    assert [event["code"] for event in client.events("error")] == ["invalid_api_key"]
    assert ASKED == ["sync"], "asking again would give the same"


def test_a_function_that_cannot_be_imported_stops_the_start() -> None:
    settings = GatewaySettings(model_url="ws://127.0.0.1:1/", model_token="nowhere:at_all")
    with pytest.raises(SettingsError, match="VOICEBUS_MODEL_TOKEN: 'nowhere:at_all' cannot be imported"):
        models(settings, {})


@pytest.mark.parametrize("wrong", ["{", '[{"host": "ws://x/"}]', '[{"url": "http://x/"}]'])
def test_wrong_fallbacks_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("VOICEBUS_MODEL_FALLBACKS", wrong)
    with pytest.raises(SettingsError, match="VOICEBUS_MODEL_FALLBACKS"):
        load(GatewaySettings)
