"""The guardrail worker as a process."""

import os
import signal

from support.processes import service
from support.tool_calls import calling
from voicebus.contracts.streams import Keys


async def test_checks_are_judged_in_the_workers_process_and_counted(redis_url: str, stream_prefix: str) -> None:
    environment = {"VOICEBUS_REDIS_URL": redis_url, "VOICEBUS_STREAM_PREFIX": stream_prefix}
    async with (
        service("guardrail-worker", "support.workers", environment=environment) as worker,
        calling(redis_url, Keys(stream_prefix)) as caller,
    ):
        await worker.ready()
        caller.check("no_prices", text="That is 5 euro.")
        (result,) = (await caller.verdict()).results
        assert (result.tripped, result.info) == (True, worker.pid)
        samples = await worker.metrics()
        assert samples['voicebus_guardrail_latency_seconds_count{rule="no_prices"}'] == 1
        os.kill(worker.pid, signal.SIGTERM)
        assert await worker.ended() == 0
