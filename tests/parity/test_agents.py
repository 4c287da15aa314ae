"""Agents, runner and session: what a program builds and calls, and what of it the model hears."""

import base64
import inspect
from collections.abc import Iterable
from contextlib import AsyncExitStack, nullcontext
from typing import Any, Final

import pytest

from support.stages import IN_PROCESS, Stage
from voicebus import (
    RealtimeAgent,
    RealtimeModelListener,
    RealtimeRunner,
    RealtimeSession,
    UserError,
    function_tool,
)
from voicebus.testing import ScriptedRealtimeServer, ServerStep, function_call, text_turn
from voicebus.testing.server_conversation import ServerConversation

CREATE: Final = "response.create"


def parameters(function: Any) -> list[tuple[str, Any]]:
    taken = inspect.signature(function).parameters.values()
    return [(one.name, one.default) for one in taken if one.name != "self"]


def test_runner_and_session_take_their_arguments_as_programs_give_them() -> None:
    none = inspect.Parameter.empty
    assert parameters(RealtimeRunner.__init__)[:3] == [("starting_agent", none), ("model", None), ("config", None)]
    assert parameters(RealtimeRunner.run) == [
        ("context", None),
        ("model_config", None),
        ("history", ()),
    ]
    assert parameters(RealtimeSession.__init__)[:5] == [
        ("model", none),
        ("agent", none),
        ("context", None),
        ("model_config", None),
        ("run_config", None),
    ]
    assert issubclass(RealtimeSession, RealtimeModelListener)


async def test_a_session_may_be_made_without_a_runner() -> None:
    from voicebus import OpenAIRealtimeWebSocketModel

    async with ScriptedRealtimeServer([ServerStep(CREATE, text_turn("Good day."))]) as server:
        session = RealtimeSession(
            OpenAIRealtimeWebSocketModel(),
            RealtimeAgent(name="clerk", instructions="Help."),
            {"user": 1},
            model_config={"url": server.url, "api_key": "test"},
        )
        async with session:
            await session.send_message("hello")
            async for event in session:
                assert event.info.context.context == {"user": 1}
                if event.type == "agent_end":
                    break
        server.assert_complete()


async def test_an_agents_class_may_add_tools_of_its_own(stage: Stage) -> None:
    @function_tool
    async def look() -> str:
        """Look."""
        return "listed"

    @function_tool
    async def find() -> str:
        """Find."""
        return "added"

    class Clerk(RealtimeAgent[Any]):
        async def get_all_tools(self, run_context: Any) -> list[Any]:
            return [*await super().get_all_tools(run_context), find]

    agent = Clerk(name="clerk", tools=[look])
    script = [
        ServerStep(CREATE, function_call("look", "{}", call_id="call_1")),
        ServerStep(CREATE, function_call("find", "{}", call_id="call_2")),
        ServerStep(CREATE, text_turn("Found.")),
    ]
    async with ScriptedRealtimeServer(script) as server, stage.conversation(agent, server) as talk:
        await talk.say("look")
        assert (await talk.until("tool_end", tool="look"))["output"] == "listed"
        assert (await talk.until("tool_end", tool="find"))["output"] == "added"
        await talk.until("agent_end", output="Found.")
        told = server.received("session.update")[0]["session"]["tools"]
        assert [tool["name"] for tool in told] == ["look", "find"]


async def test_instructions_are_made_at_connect_and_at_each_change_of_the_agent_only(stage: Stage) -> None:
    asked: list[str] = []

    class Instructions:
        async def __call__(self, context: Any, agent: RealtimeAgent[Any]) -> str:
            asked.append(agent.name)
            return f"You are {agent.name}, {len(asked)}."

    def plain(context: Any, agent: RealtimeAgent[Any]) -> str:
        asked.append(agent.name)
        return f"You are {agent.name}."

    first = RealtimeAgent[Any](name="clerk", instructions=Instructions())
    second = RealtimeAgent[Any](name="billing", instructions=plain)
    script = [ServerStep(CREATE, text_turn("One.")), ServerStep(CREATE, text_turn("Two."))]
    async with (
        ScriptedRealtimeServer(script) as server,
        stage.conversation(first, server, more=[second]) as talk,
    ):
        for _ in range(2):
            await talk.say("hello")
            await talk.until("agent_end")
        assert asked == ["clerk"]
        await talk.update_agent(second)
        told = [update["session"] for update in server.received("session.update")]
        while not any(session.get("instructions") == "You are billing." for session in told):
            await server.wait_for("session.update", len(told) + 1)
            told = [update["session"] for update in server.received("session.update")]
    assert asked == ["clerk", "billing"]
    assert told[0]["instructions"] == "You are clerk, 1."


async def test_a_prompt_that_the_server_keeps_is_named_to_it(stage: Stage) -> None:
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"name": "Ada"}}
    agent = RealtimeAgent[Any](name="clerk", prompt=prompt)  # type: ignore[arg-type]
    async with ScriptedRealtimeServer() as server, stage.conversation(agent, server):
        update = await server.wait_for("session.update")
    assert update["session"]["prompt"] == prompt


async def test_a_message_is_text_or_parts_and_is_answered(stage: Stage) -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": picture, "detail": "low"},
    ]
    script = [ServerStep(CREATE, text_turn("Hello.")), ServerStep(CREATE, text_turn("A dot."))]
    async with ScriptedRealtimeServer(script) as server:
        async with stage.conversation(RealtimeAgent(name="clerk"), server) as talk:
            await talk.say("hello")
            await talk.until("agent_end")
            await talk.say(parts)
            await talk.until("agent_end")
        server.assert_complete()
    items = [event["item"] for event in server.received("conversation.item.create")]
    assert [(item["type"], item["role"]) for item in items] == [("message", "user")] * 2
    assert [item["content"] for item in items] == [[{"type": "input_text", "text": "hello"}], parts]


async def test_audio_is_appended_and_never_asks_for_a_response(stage: Stage) -> None:
    samples = bytes(range(256)) * 10
    async with (
        ScriptedRealtimeServer() as server,
        stage.conversation(RealtimeAgent(name="clerk"), server) as talk,
    ):
        await talk.send_audio(samples)
        first = await server.wait_for("input_audio_buffer.append")
        assert samples.startswith(base64.b64decode(first["audio"]))
        await talk.mute(True)
        await talk.send_audio(samples)
        await talk.mute(False)
        await talk.send_audio(b"\x01\x00" * 240)
        while not server.connections[0].audio.endswith(b"\x01\x00" * 240):
            await server.wait_for("input_audio_buffer.append", len(server.received("input_audio_buffer.append")) + 1)
        assert server.connections[0].audio == samples + b"\x01\x00" * 240
    assert server.received(CREATE) == []


@pytest.mark.parametrize(
    "content",
    [[{"type": "input_text"}], [{"type": "audio"}], [{"type": "input_image", "image_url": "ftp://host/a.png"}]],
    ids=["no text", "unknown", "image elsewhere"],
)
async def test_a_malformed_part_of_a_message_is_refused_and_the_conversation_goes_on(
    stage: Stage, content: list[dict[str, Any]]
) -> None:
    async with ScriptedRealtimeServer([ServerStep(CREATE, text_turn("Hello."))]) as server:
        async with stage.conversation(RealtimeAgent(name="clerk"), server) as talk:
            # In process this raises; a client of a gateway gets an error for an answer.
            with pytest.raises(UserError, match="content") if stage.name == IN_PROCESS else nullcontext():
                await talk.say(content)
            await talk.say("hello")
            await talk.until("agent_end", output="Hello.")
            server.assert_complete()
    assert len(server.received("conversation.item.create")) == 1


async def test_many_conversations_are_held_at_once_each_for_itself(stage: Stage) -> None:
    numbers = ("one", "two", "three")

    def echo(conversation: ServerConversation) -> Iterable[Any]:
        (asking,) = [one for one in server.connections if one.conversation is conversation]
        message = asking.received("conversation.item.create")[-1]["item"]
        turn: Any = text_turn(message["content"][0]["text"])
        return turn(conversation)  # type: ignore[no-any-return]

    async with ScriptedRealtimeServer([ServerStep(CREATE, echo)]) as server, AsyncExitStack() as stack:
        first = await stack.enter_async_context(stage.conversation(RealtimeAgent(name="clerk"), server))
        talks = [first, *[await stack.enter_async_context(first.another()) for _ in numbers[1:]]]
        for talk, number in zip(talks, numbers, strict=True):
            await talk.say(number)
        for talk, number in zip(talks, numbers, strict=True):
            await talk.until("agent_end", output=number)
            assert len(talk.of("agent_end")) == 1
        assert len(server.connections) == len(numbers)
