"""Guardrail workers that are killed: rules block or pass by their policy, the counts agree, and a new worker judges."""

import os
import signal
from collections.abc import Mapping

from prometheus_client import REGISTRY

from services.gateway.clients import TestClient, native
from services.gateway.conftest import Gateways
from support.processes import service
from support.waiting import wait_until

WARDS = "services.gateway.wards"


def sample(name: str, labels: Mapping[str, str] | None = None) -> float:
    return REGISTRY.get_sample_value(f"voicebus_guardrail_{name}", dict(labels or {})) or 0.0


def unjudged(rule: str, policy: str) -> float:
    return sample("unjudged_total", {"rule": rule, "cause": "unavailable", "policy": policy})


async def answer(client: TestClient, text: str) -> str:
    """What is heard of an answer."""
    client.seen.clear()
    await client.send("send_message", text=f"[[say: {text}]]")
    await client.until("agent_end")
    return "".join(event["delta"] for event in client.events("transcript_delta"))


async def test_rules_block_or_pass_while_every_worker_is_dead_and_judge_again_with_the_next_one(
    gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    environment = {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix}
    async with (
        gateways(WARDS, guardrail_timeout=1) as gateway,
        native(gateway, "?agent=opened") as bold,
        native(gateway, "?agent=closed") as careful,
    ):
        async with service("guardrail-worker", WARDS, environment=environment) as worker:
            await worker.ready()
            assert await answer(bold, "Good morning") == "Good morning"
            assert await answer(careful, "Good evening") == "Good evening"
            os.kill(worker.pid, signal.SIGKILL)
            await worker.ended()
        passed, blocked = unjudged("fails_open", "open"), unjudged("fails_closed", "closed")
        trips = sample("trips_total", {"rule": "fails_closed"})
        for number in range(5):
            assert await answer(bold, f"Number {number}") == f"Number {number}"
        assert unjudged("fails_open", "open") - passed == 5
        assert sample("circuit_open") == 1
        assert await answer(careful, "Anything") == ""
        await careful.until("agent_end")  # its replacement, which nobody can judge either
        assert careful.events("transcript_delta") == []
        assert unjudged("fails_closed", "closed") - blocked == 2
        assert sample("trips_total", {"rule": "fails_closed"}) - trips == 2
        async with service("guardrail-worker", WARDS, environment=environment) as worker:
            await worker.ready()

            async def answers_again() -> bool:
                return sample("circuit_open") == 0

            await wait_until(answers_again, description="the circuit to close")
            assert await answer(careful, "Good night") == "Good night"
            assert unjudged("fails_closed", "closed") - blocked == 2
