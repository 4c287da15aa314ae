"""What only the JavaScript SDK has, and ours has too (parity 138 to 140)."""

import asyncio
from typing import Any

from support.scripts import answering, outputs, session_update
from support.stages import Stage
from support.waiting import wait_until
from voicebus import HostedMCPTool, RealtimeAgent, RealtimeRunner, RealtimeSession, background_result, function_tool
from voicebus.testing import ScriptedRealtimeServer, audio_turn, function_call, text_turn

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")


async def session_of(server: ScriptedRealtimeServer, agent: RealtimeAgent[Any] = ADA) -> RealtimeSession:
    return await RealtimeRunner(agent).run(context={"who": "me"}, model_config={"url": server.url, "api_key": "test"})


async def test_a_session_tells_what_it_knows_of_itself() -> None:
    """In process only: getters are of the session object; the cluster has `GET /v1/sessions`."""
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        await session.send_message("hello")
        async for event in session:
            if event.type == "agent_end":
                break
        assert [getattr(item, "role", None) for item in session.history] == ["user", "assistant"]
        assert session.current_agent is ADA
        assert session.usage.requests == 1
        assert session.context.context == {"who": "me"}
        assert session.muted is False
        assert session.model_session_id


async def test_history_is_edited_and_images_are_added() -> None:
    """In process only, as above."""
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:
        await session.add_image("data:image/png;base64,AAAA", trigger_response=False)
        await wait_until(lambda: len(session.history) == 1, description="the image")
        assert server.received("response.create") == []
        await session.update_history(lambda items: [])
        deleted = await server.wait_for("conversation.item.delete")
        assert deleted["item_id"] == server.received("conversation.item.create")[0]["item"].get("id", "item_1")
        await session.send_message("hello", other_event_data={"event_id": "mine"})
        created = await server.wait_for("conversation.item.create", 2)
        assert created["event_id"] == "mine"


async def test_nothing_is_sent_while_muted(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.wait_for("session.update")
        await talk.mute(True)
        await talk.send_audio(b"\1\0")
        await talk.mute(False)
        await talk.send_audio(b"\2\0")
        await server.wait_for("input_audio_buffer.append")
    assert server.connections[0].audio == b"\2\0"


async def test_audio_is_told_to_start_and_stop(stage: Stage) -> None:
    async with answering(audio_turn("Hi.", bytes(960))) as server, stage.conversation(ADA, server) as talk:
        await talk.say("hello")
        await talk.until("agent_end")
    kinds = talk.kinds()
    assert kinds.index("audio_start") == kinds.index("audio") - 1
    assert kinds.index("audio_end") < kinds.index("audio_stopped")
    assert talk.of("audio_start")[0]["item_id"] == talk.of("audio_stopped")[0]["item_id"]


async def test_calls_are_named_and_the_end_of_a_turn_says_what_was_said(stage: Stage) -> None:
    @function_tool
    async def weather() -> str:
        """Tell the weather."""
        return "clear"

    agent = RealtimeAgent("Ada", tools=[weather])
    async with answering(function_call("weather", call_id="c1"), text_turn("Clear.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("weather?")
            ended = await talk.until("agent_end", output="Clear.")
    assert ended["agent"] == "Ada"
    assert [event["call_id"] for event in (*talk.of("tool_start"), *talk.of("tool_end"))] == ["c1", "c1"]


async def test_a_background_result_is_read_by_the_model_without_an_answer(stage: Stage) -> None:
    @function_tool
    async def note(text: str) -> Any:
        """Take a note."""
        return background_result(f"noted {text}")

    agent = RealtimeAgent("Ada", tools=[note])
    async with answering(function_call("note", {"text": "milk"}, call_id="c1")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("note milk")
            await talk.until("tool_end")
            await wait_until(lambda: bool(outputs(server)), description="the output")
            await talk.until("agent_end") if not talk.of("agent_end") else None
    assert outputs(server) == [("c1", "noted milk")]
    assert len(server.received("response.create")) == 1


async def test_hosted_mcp_tools_go_to_the_server_and_their_calls_are_events(stage: Stage) -> None:
    hosted = HostedMCPTool({"type": "mcp", "server_label": "maps", "server_url": "https://maps.example/mcp"})
    agent = RealtimeAgent("Ada", tools=[hosted])
    async with ScriptedRealtimeServer() as server, stage.conversation(agent, server) as talk:
        await talk.until("history_updated")
        await server.wait_for("session.update")
        assert [(tool["type"], tool["server_label"]) for tool in session_update(server)["tools"]] == [("mcp", "maps")]
        tools = {"type": "mcp_list_tools", "id": "l1", "server_label": "maps", "tools": [{"name": "find"}]}
        call = {
            "type": "mcp_call", "id": "m1", "server_label": "maps", "name": "find", "arguments": "{}", "output": "here",
            "status": "completed",
        }  # fmt: skip
        model = server.connections[0]
        await model.emit({"type": "conversation.item.done", "previous_item_id": None, "item": tools})
        await talk.until("mcp_tools_changed")
        created = {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}}
        done = {"type": "response.output_item.done", "response_id": "r1", "output_index": 0, "item": call}
        await model.emit(created, done)
        completed = await talk.until("mcp_tool_call_completed")
    assert completed["item"]["output"] == "here"


async def test_an_agents_voice_is_used_before_the_first_speech(stage: Stage) -> None:
    second = RealtimeAgent("Bob", voice="verse")
    agent = RealtimeAgent("Ada", voice="coral", handoffs=[second])
    async with answering(function_call("transfer_to_bob"), text_turn("Bob here.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.until("history_updated")
            await server.wait_for("session.update")
            assert session_update(server, 0)["audio"]["output"]["voice"] == "coral"
            await talk.say("Bob, please")
            await talk.until("handoff")
            await talk.until("agent_end", output="Bob here.")
    assert session_update(server)["audio"]["output"]["voice"] == "verse"


async def test_several_consumers_see_every_event() -> None:
    """In process only: iterators are of the session object."""
    async with answering(text_turn("Hi.")) as server, await session_of(server) as session:

        async def read() -> list[str]:
            kinds: list[str] = []
            async for event in session:
                kinds.append(event.type)
                if event.type == "agent_end":
                    break
            return kinds

        reading = asyncio.gather(read(), read())
        await session.send_message("hello")
        one, other = await reading
    assert one == other
