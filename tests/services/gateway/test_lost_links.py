"""A client of the OpenAI protocol whose model's socket is cut: it sees its session and its responses go on."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway.clients import TestClient, connected
from services.gateway.conftest import Gateways
from support.simulator import SimulatorHandle, running_simulator
from support.waiting import wait_until


@pytest.fixture(params=[{}, {"simulator_quirks": {"counted_ids": True}}], ids=["new ids", "ids of the last socket"])
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[SimulatorHandle]:
    async with running_simulator(pace="step", **request.param) as handle:
        yield handle


async def asks(client: TestClient, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    await client.send("response.create", response={"output_modalities": ["text"]})


def well_formed(seen: list[dict[str, Any]]) -> None:
    """One response at a time, each with one end; each item begun once and ended once; positions never twice."""
    kinds = Counter(event["type"] for event in seen)
    assert kinds["session.created"] == 1
    assert kinds["response.created"] == kinds["response.done"]
    for kind in ("conversation.item.added", "conversation.item.done", "response.output_item.done"):
        items = [event["item"]["id"] for event in seen if event["type"] == kind]
        assert len(items) == len(set(items)), kind
    begun = [event["item"]["id"] for event in seen if event["type"] == "response.output_item.added"]
    ended = [event["item"]["id"] for event in seen if event["type"] == "response.output_item.done"]
    assert sorted(begun) == sorted(ended)


async def test_an_answer_that_is_cut_goes_on_as_the_same_response(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    async with gateways() as gateway, connected(gateway, "/v1/realtime") as client:
        await client.until("session.created")
        await asks(client, "[[say: One two three four five six seven eight nine ten.]]")
        simulator.step(4)
        await client.until("response.output_text.delta")
        assert simulator.cut() == 1
        await wait_until(lambda: len(simulator.ledger()) == 2, description="another socket")
        simulator.step(1000)
        done = await client.until("response.done")
        await asks(client, "[[say: And eleven.]]")
        await client.until("response.done")
        seen = [event for event in client.seen if isinstance(event, dict)]
        well_formed(seen)
        (created, _) = client.events("response.created")
    response = done["response"]
    assert (response["id"], response["status"]) == (created["response"]["id"], "completed")
    assert [item["status"] for item in response["output"]] == ["incomplete", "completed"]
    assert response["output"][-1]["content"][0]["text"] == "One two three four five six seven eight nine ten."
    assert client.events("error") == []


async def test_a_client_notices_nothing_of_a_cut_between_its_turns(
    gateways: Gateways, simulator: SimulatorHandle
) -> None:
    simulator.step(1000)
    async with gateways() as gateway, connected(gateway, "/v1/realtime") as client:
        await client.until("session.created")
        for number in range(3):
            await asks(client, f"[[say: Answer {number}.]]")
            done = await client.until("response.done")
            assert done["response"]["output"][0]["content"][0]["text"] == f"Answer {number}."
            assert simulator.cut() == 1
            await wait_until(lambda number=number: len(simulator.ledger()) == number + 2, description="another socket")  # type: ignore[misc]
        seen = [event for event in client.seen if isinstance(event, dict)]
        well_formed(seen)
        added = [event["item"]["id"] for event in seen if event["type"] == "conversation.item.added"]
        previous = [event["previous_item_id"] for event in seen if event["type"] == "conversation.item.added"]
    assert previous == [None, *added[:-1]]
    assert client.events("error") == []
