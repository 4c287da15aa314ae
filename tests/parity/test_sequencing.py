"""Who asks for a response and when (parity 124), how a stream ends (125), and how a session closes (2.31 to 2.37)."""

import asyncio
import contextlib
from typing import Any

import pytest

from support.scripts import answering, outputs, sent
from support.stages import Stage
from voicebus import (
    ModelLinkError,
    RealtimeAgent,
    RealtimeModelListener,
    RealtimeModelSendRawMessage,
    RealtimeModelToolCallEvent,
    RealtimeRunner,
    RealtimeSession,
    UserError,
    function_tool,
)
from voicebus.testing import (
    Drop,
    ScriptedRealtimeModel,
    ScriptedRealtimeServer,
    ServerStep,
    end_turn,
    function_call,
    function_calls,
    open_turn,
    text_turn,
)

ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")


@function_tool
async def weather(city: str) -> str:
    """Tell the weather."""
    return f"clear in {city}"


async def session_of(server: ScriptedRealtimeServer, agent: RealtimeAgent[Any] = ADA) -> RealtimeSession:
    return await RealtimeRunner(agent).run(model_config={"url": server.url, "api_key": "test"})


async def test_a_message_in_a_running_answer_is_created_at_once_and_answered_after_it(stage: Stage) -> None:
    async with answering(open_turn("One"), text_turn("Two.")) as server, stage.conversation(ADA, server) as talk:
        await talk.say("first")
        await talk.until("audio")
        await talk.say("second")
        await talk.say("third")
        await server.wait_for("conversation.item.create", 3)
        assert len(server.received("response.create")) == 1
        await server.connections[0].emit(end_turn())
        await talk.until("agent_end", output="Two.")
    assert len(server.received("response.create")) == 2, "both are answered by one"


async def test_outputs_of_one_response_are_answered_by_one(stage: Stage) -> None:
    calls = function_calls(("weather", {"city": "Oslo"}, "c1"), ("weather", {"city": "Rome"}, "c2"))
    agent = RealtimeAgent("Ada", tools=[weather])
    async with answering(calls, text_turn("Clear.")) as server, stage.conversation(agent, server) as talk:
        await talk.say("weather?")
        await talk.until("agent_end", output="Clear.")
    assert sorted(outputs(server)) == [("c1", "clear in Oslo"), ("c2", "clear in Rome")]
    assert sent(server, "response.create") == ["response.create"] * 2


async def test_a_raw_create_is_a_turn_of_its_own() -> None:
    """In process only: raw messages of a program go through the model object."""
    steps = [ServerStep("response.create", open_turn("One")), *[ServerStep("response.create", text_turn("."))] * 2]
    async with ScriptedRealtimeServer(steps) as server, await session_of(server) as session:
        await session.send_message("first")
        await server.wait_for("response.create")
        raw: Any = {"type": "response.create", "other_data": {"response": {"instructions": "Be brief."}}}
        await session.model.send_event(RealtimeModelSendRawMessage(message=raw))
        await session.send_message("second")
        assert len(server.received("response.create")) == 1
        await server.connections[0].emit(end_turn())
        await server.wait_for("response.create", 3)
    instructions = [(event.get("response") or {}).get("instructions") for event in server.received("response.create")]
    assert instructions == [None, "Be brief.", None]


async def test_a_connection_that_cannot_be_replaced_is_raised_after_the_events_that_came() -> None:
    """In process only: a client of the cluster is told with an `error` event and a close code."""
    async with answering(text_turn("Bye.")) as server, await session_of(server) as session:
        kinds: list[str] = []

        async def read() -> None:
            async for event in session:
                kinds.append(event.type)  # noqa: PERF401 - what came before the loop raises must be kept

        await session.send_message("bye")
        await server.wait_for("response.create")
        await server.connections[0].emit(Drop(4000))
        with pytest.raises(ModelLinkError):
            await read()
    assert "agent_end" in kinds


async def test_nothing_but_the_transport_ends_a_call(stage: Stage) -> None:
    @function_tool(failure_error_function=None)
    async def broken() -> str:
        """Fail."""
        raise RuntimeError("out of order")

    agent = RealtimeAgent("Ada", tools=[broken])
    async with answering(function_call("broken"), text_turn("Still here.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("do it")
            await server.connections[0].emit({"type": "no.such.event"}, {"type": "response.output_item.added"})
            await server.connections[0].emit({"type": "conversation.item.added", "item": {"role": "clown"}})
            await talk.until("agent_end", output="Still here.")
    assert talk.of("error"), "the failure is an event"


async def test_malformed_frames_and_listeners_that_raise_are_errors_and_end_nothing() -> None:
    """In process only: programs listen to the model object."""

    class Broken(RealtimeModelListener):
        async def on_event(self, event: Any) -> None:
            raise RuntimeError("out of order")

    async with answering(text_turn("Still here.")) as server, await session_of(server) as session:
        session.model.add_listener(Broken())
        await server.connections[0]._socket.send("{nonsense")
        await session.send_message("there?")
        codes, said = set(), ""
        async for event in session:
            codes |= {event.error.code} if event.type == "error" else set()
            said = event.output if event.type == "agent_end" else said
            if said and len(codes) == 2:
                break
        assert said == "Still here."
        assert codes == {"model_malformed", "listener_failed"}


async def test_a_loop_that_waits_ends_when_the_session_is_closed_and_several_may_close_it() -> None:
    """In process only: closing is what the end of the client's connection is in the cluster."""
    async with ScriptedRealtimeServer() as server:
        session = await session_of(server)
        await session.enter()

        async def read() -> int:
            return len([event async for event in session])

        reading = asyncio.create_task(read())
        await server.wait_for("session.update")
        await asyncio.gather(session.close(), session.close())
        await session.close()
        assert await reading > 0
        before = len(server.received())
        with pytest.raises((UserError, AssertionError)):
            await session.send_message("too late")
        assert len(server.received()) == before


async def test_a_tool_that_ends_after_the_close_sends_nothing() -> None:
    """In process only, as above."""
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    asked: list[str] = []

    class Watched(ScriptedRealtimeModel):
        """Says what it is asked to send, connected or not."""

        async def send_event(self, event: Any) -> None:
            asked.append(type(event).__name__)
            await super().send_event(event)

    @function_tool
    async def slow() -> str:
        """Take long, whoever wants it to stop."""
        begun.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()
        ended.set()
        return "done"

    model = Watched(strict=False)
    session = await RealtimeRunner(RealtimeAgent("Ada", tools=[slow]), model=model).run()
    async with session:
        await model.emit(RealtimeModelToolCallEvent("slow", "c1", "{}"))
        await begun.wait()
    assert session.closed
    may_end.set()
    await ended.wait()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    assert asked == []


async def test_what_a_model_says_before_it_created_a_response_belongs_to_it(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        model = server.connections[0]
        delta = {
            "type": "response.output_audio_transcript.delta", "response_id": "r1", "item_id": "i1", "output_index": 0,
            "content_index": 0, "delta": "Hi",
        }  # fmt: skip
        await model.emit(
            delta,
            {"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}},
            {**delta, "delta": " there"},
            {"type": "response.done", "response": {"id": "other", "status": "completed", "output": []}},
            {"type": "response.done", "response": {"id": "r1", "status": "completed", "output": []}},
        )
        ended = await talk.until("agent_end", output="Hi there")
    assert ended
    assert [event["response_id"] for event in talk.of("agent_start")].count("r1") == 1
