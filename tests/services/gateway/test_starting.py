"""An agent that fails as a session begins: whoever asked is told of it for good, whatever face it asked at."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from services.gateway.clients import native, realtime
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus_services.gateway.wiring import Gateway

OFFER = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
AGENTS = [("raises", "AttributeError"), ("numbers", "UserError")]


@pytest.fixture
async def faulty(gateways: Gateways) -> AsyncIterator[Gateway]:
    async with gateways("services.gateway.faulty") as running_one:
        yield running_one


def told(agent: str, raised: str) -> str:
    return f"agent '{agent}' cannot begin a session ({raised}); the gateway's log has the cause"


@pytest.mark.parametrize(("agent", "raised"), AGENTS)
async def test_who_makes_a_session_is_told_which_agent_failed_and_the_log_why(
    faulty: Gateway, caplog: pytest.LogCaptureFixture, agent: str, raised: str
) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{faulty.port}") as client:
        answer = await client.post("/v1/sessions", json={"agent": agent})
    assert (answer.status_code, answer.json()["code"]) == (500, "agent_failed")
    assert answer.json()["detail"] == told(agent, raised)
    assert "retry-after" not in answer.headers
    await wait_until(lambda: not list(faulty.sessions), description="the slot to be free")
    [line] = [record for record in caplog.records if record.exc_info]
    assert "an agent cannot begin a session" in line.getMessage()
    assert raised in caplog.text


@pytest.mark.parametrize(("agent", "raised"), AGENTS)
async def test_a_client_of_either_face_is_told_which_agent_failed(faulty: Gateway, agent: str, raised: str) -> None:
    async with native(faulty, f"?agent={agent}") as client:
        error = await client.until("error")
        assert (error["code"], error["message"]) == ("agent_failed", told(agent, raised))
        assert await client.closed() == 1011
    async with realtime(faulty, f"?agent={agent}") as client:
        error = (await client.until("error"))["error"]
        assert (error["type"], error["code"]) == ("server_error", "agent_failed")
        assert error["message"] == told(agent, raised)
        assert await client.closed() == 1011


async def test_who_makes_a_call_is_told_that_its_agent_raised_and_nothing_of_what(
    faulty: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{faulty.port}/v1/realtime") as client:
        answer = await client.post(
            "/calls", params={"agent": "raises"}, content=OFFER, headers={"Content-Type": "application/sdp"}
        )
    assert (answer.status_code, answer.json()["code"]) == (500, "agent_failed")
    assert answer.json()["detail"] == told("raises", "AttributeError")
    [line] = [record for record in caplog.records if record.exc_info]
    assert "an agent cannot begin a session" in line.getMessage()
