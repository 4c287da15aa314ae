"""Every error code that a model is known to send, in the middle of a conversation: what becomes of it.

Fatal ones end the session with one error. All others are survived: the turn that was open is answered once, and the
next one too.
"""

import asyncio
from typing import Any, Final

import pytest

from support.stages import Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent
from voicebus.engine.failures import FATAL_CODES, RATE_LIMIT_CODES
from voicebus.testing import ScriptedRealtimeServer, ServerStep, text_turn

CREATE: Final = "response.create"

SURVIVED: Final = (
    "invalid_json", "invalid_event", "invalid_value", "unknown_parameter", "missing_required_parameter",
    "integer_below_min_value", "string_above_max_length", "response_cancel_not_active",
    "input_audio_buffer_commit_empty", "item_create_duplicate_item_id", "item_create_invalid_previous_item_id",
    "item_delete_invalid_item_id", "item_retrieve_invalid_item_id", "item_truncate_invalid_item_id",
    "unsupported_content_type", "cannot_update_voice", "server_error", "invalid_tool_call_id",
    "conversation_already_has_active_response", *sorted(RATE_LIMIT_CODES), "something_new", None,
)  # fmt: skip


def error(code: str | None) -> dict[str, Any]:
    told = {"type": "invalid_request_error", "code": code, "message": f"It says {code}.", "param": None}
    return {"type": "error", "error": {**told, "event_id": None}}


AGENT: Final = RealtimeAgent[Any]("clerk")


@pytest.mark.parametrize("code", SURVIVED)
async def test_an_error_in_the_middle_of_a_turn_is_survived_and_each_turn_answered_once(
    stage: Stage, code: str | None
) -> None:
    steps = [ServerStep(CREATE, [error(code), text_turn("One.")]), ServerStep(CREATE, text_turn("Two."))]
    async with ScriptedRealtimeServer(steps) as server, stage.conversation(AGENT, server) as talk:
        await talk.say("first")
        await talk.until("agent_end", output="One.")
        await talk.say("second")
        await talk.until("agent_end", output="Two.")
        assert not talk.ended.is_set()
        assert talk.of("model_reconnecting") == []
    assert [event["output"] for event in talk.of("agent_end")] == ["One.", "Two."]
    said = [line["text"] for line in talk.recorded("item_recorded")]
    assert said == ["first", "One.", "second", "Two."]


@pytest.mark.parametrize("code", sorted(FATAL_CODES))
async def test_a_fatal_error_ends_the_session_with_one_error_and_without_another_try(stage: Stage, code: str) -> None:
    steps = [ServerStep(CREATE, text_turn("One.")), ServerStep(CREATE, error(code))]
    async with ScriptedRealtimeServer(steps) as server, stage.conversation(AGENT, server) as talk:
        await talk.say("first")
        await talk.until("agent_end", output="One.")
        await talk.say("second")
        async with asyncio.timeout(20):
            await talk.ended.wait()
        assert len(server.connections) == 1
    assert [event.get("error", event)["code"] for event in talk.of("error")] == [code]
    assert talk.recorded("session_ended")[0]["reason"] == "model_lost"
    assert talk.of("model_reconnecting") == []


async def test_an_expired_session_is_replaced_and_the_open_turn_answered_once(stage: Stage) -> None:
    first = [ServerStep(CREATE, text_turn("One.")), ServerStep(CREATE, error("session_expired"))]
    second = [ServerStep(CREATE, text_turn("Two."))]
    async with ScriptedRealtimeServer(first, second) as server, stage.conversation(AGENT, server) as talk:
        await talk.say("first")
        await talk.until("agent_end", output="One.")
        await talk.say("second")
        await talk.until("agent_end", output="Two.")
        await wait_until(lambda: len(server.connections) == 2, description="another connection")
    assert talk.of("error") == []
    assert [event["cause"] for event in talk.of("model_reconnecting")] == ["expired"]
    assert [line["text"] for line in talk.recorded("item_recorded")] == ["first", "One.", "second", "Two."]
