"""What a gateway makes of what comes through its inbox."""

import logging

import pytest

from support.waiting import wait_until
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT, Outcome, ToolResult
from voicebus.ports import SessionRef
from voicebus_services.gateway.wiring import Gateway


async def test_a_result_that_nobody_waits_for_is_told_of_and_the_answer_to_a_cancel_is_not(
    gateway: Gateway, redis_url: str, stream_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with await connect(redis_url) as bus:
        clock = RedisClock(bus)
        await clock.synchronise()
        for call_id, outcome in (("given-up", Outcome.CANCELLED), ("ended", Outcome.OK)):
            result = ToolResult(call_id=call_id, outcome=outcome, output="", worker="depot-node", duration_ms=1)
            fields = new_entry(SessionRef("gone", 1), TOOL_RESULT, result, clock).fields()
            flat = [text for pair in fields.items() for text in pair]
            await bus.call("XADD", Keys(stream_prefix).inbox(gateway.id), "*", *flat)
        told = "a result came that nobody waits for"
        await wait_until(lambda: any(told in message for message in caplog.messages), description="the sentence")
    (line,) = [message for message in caplog.messages if told in message]
    assert "call=ended" in line
    assert "worker=depot-node" in line
