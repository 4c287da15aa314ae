"""Behaviours of settings, of listeners and of a session's life that are easy to get wrong (parity 2.22 to 2.40)."""

import asyncio
import logging
from typing import Any

import pytest

from support.scripts import answering, session_update
from support.stages import Stage
from voicebus import (
    GuardrailFunctionOutput,
    ModelLinkError,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeRunConfig,
    RealtimeRunner,
    RealtimeSession,
    UserError,
    function_tool,
)
from voicebus.testing import ScriptedRealtimeServer, ServerStep, function_call, server_error, text_turn

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")


async def session_of(server: ScriptedRealtimeServer, agent: RealtimeAgent[Any] = ADA) -> RealtimeSession:
    return await RealtimeRunner(agent).run(model_config={"url": server.url, "api_key": "test"})


async def test_every_update_carries_all_audio_settings_voice_tools_and_model(stage: Stage) -> None:
    @function_tool
    async def weather() -> str:
        """Tell the weather."""
        return "clear"

    agent = RealtimeAgent("Ada", handoffs=[RealtimeAgent("Bob", instructions="You are Bob.", tools=[weather])])
    config: RealtimeRunConfig = {"model_settings": {"input_audio_format": "g711_ulaw", "voice": "coral"}}
    async with answering(function_call("transfer_to_bob"), text_turn("Bob here.")) as server:
        async with stage.conversation(agent, server, config) as talk:
            await talk.say("Bob, please")
            await talk.until("agent_end", output="Bob here.")
    first, second = session_update(server, 0), session_update(server)
    assert second["instructions"] == "You are Bob."
    assert [tool["name"] for tool in second["tools"]] == ["weather"]
    for name in ("model", "output_modalities", "type"):
        assert second[name] == first[name]
    assert second["audio"]["input"] == first["audio"]["input"]
    assert second["audio"]["output"]["voice"] == "coral"
    assert second["audio"]["input"]["format"]["type"] == "audio/pcmu"


async def test_none_is_sent_and_absent_is_not(stage: Stage) -> None:
    config: RealtimeRunConfig = {
        "model_settings": {"audio": {"input": {"turn_detection": None, "noise_reduction": None}}}
    }
    for given, absent in ((config, False), (RealtimeRunConfig(), True)):
        async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server, given) as talk:
            await talk.until("history_updated")
            await server.wait_for("session.update")
            audio = session_update(server)["audio"]["input"]
        assert ("noise_reduction" not in audio) is absent
        assert (audio["turn_detection"] is None) is not absent


async def test_a_guardrail_that_crashes_lets_the_conversation_go_on(stage: Stage) -> None:
    def broken(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        raise RuntimeError("out of order")

    agent = RealtimeAgent("Ada", output_guardrails=[OutputGuardrail(broken)])
    async with answering(text_turn("One."), text_turn("Two.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("one?")
            await talk.until("agent_end")
            await talk.say("two?")
            await talk.until("agent_end", output="Two.")
    assert talk.of("guardrail_tripped") == []


async def test_a_raw_event_keeps_what_the_server_sent() -> None:
    """In process only: raw server events are what programs are shown of the model layer."""
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        raw: list[dict[str, Any]] = []
        await session.send_message("hello")
        async for event in session:
            if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                raw.append(dict(event.data.data))
            if event.type == "agent_end":
                break
    added = next(event for event in raw if event["type"] == "conversation.item.added")
    assert "previous_item_id" in added
    assert added["previous_item_id"] is None
    assert added["event_id"]


async def test_usage_is_known_when_a_turn_ends_and_a_response_without_it_adds_none() -> None:
    """In process only: usage is on the program's context; records carry it in `turn_ended` in both modes."""
    done = {"id": "r9", "status": "completed", "output": []}
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        seen: list[int] = []
        await session.send_message("hello")
        async for event in session:
            if event.type == "agent_end":
                seen.append(event.info.context.usage.total_tokens)
                if len(seen) == 2:
                    break
                await server.connections[0].emit(
                    {"type": "response.created", "response": {**done, "status": "in_progress"}},
                    {"type": "response.done", "response": done},
                )
    assert seen[0] > 0
    assert seen[1] == seen[0]


async def test_usage_is_recorded_with_each_turn(stage: Stage) -> None:
    async with answering(text_turn("Hi.")) as server, stage.conversation(ADA, server) as talk:
        await talk.say("hello")
        await talk.until("agent_end")
    (turn,) = talk.recorded("turn_ended")
    assert turn["usage"]["total_tokens"] > 0


async def test_an_error_of_the_server_about_nothing_of_ours_changes_nothing(stage: Stage) -> None:
    async with answering(text_turn("Hi.")) as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.connections[0].emit(server_error("odd", "Something odd."))
        await talk.until("error")
        await talk.say("hello")
        await talk.until("agent_end", output="Hi.")


async def test_a_failed_connection_leaves_nothing_and_a_second_enter_is_refused() -> None:
    """In process only: a client of the cluster that cannot be served is told, and closed."""
    async with ScriptedRealtimeServer() as gone:
        url = gone.url
    session = await RealtimeRunner(ADA).run(model_config={"url": url, "api_key": "test"})
    for _ in range(2):  # nothing is left of the first that would keep a second from being made
        with pytest.raises((ModelLinkError, OSError)):
            await session.enter()
    await session.close()
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        with pytest.raises(UserError, match="entered before"):
            await session.enter()
        with pytest.raises(AssertionError, match="Already connected"):
            await session.model.connect({"url": server.url, "api_key": "test"})
        await session.send_message("hello")
        async for event in session:
            if event.type == "agent_end":
                break
        assert len(server.connections) == 1, "the session that was open goes on"


async def test_a_cancelled_loop_says_so_and_the_session_goes_on() -> None:
    """In process only: loops are of the session object."""
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in session:
                begun.set()

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await session.send_message("hello")
        async for event in session:
            if event.type == "agent_end":
                break


async def test_what_is_said_and_secrets_are_in_no_log_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    step = ServerStep("response.create", text_turn("my answer is confidential"))
    async with ScriptedRealtimeServer([step]) as server, stage.conversation(ADA, server) as talk:
        await talk.say("my question is confidential")
        await talk.until("agent_end")
    assert "confidential" not in caplog.text
