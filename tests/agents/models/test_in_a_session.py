"""Direct access to the model layer of a session that runs: listeners, raw messages, playback, models of one's own."""

import base64
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.model_ear import Ear
from support.model_server import model_server
from support.simulator import running_simulator
from support.waiting import wait_until
from voicebus import (
    OpenAIRealtimeWebSocketModel,
    RealtimeAgent,
    RealtimeModel,
    RealtimeModelConfig,
    RealtimeModelRawServerEvent,
    RealtimeModelSendEvent,
    RealtimeModelSendRawMessage,
    RealtimeModelSendUserInput,
    RealtimePlaybackTracker,
    RealtimeRunner,
)

pytestmark = pytest.mark.usefixtures("delivery")

AGENT: RealtimeAgent[Any] = RealtimeAgent(name="Helper", instructions="Help.")


def speaking() -> list[dict[str, Any]]:
    delta = {
        "type": "response.output_audio.delta",
        "response_id": "resp_1",
        "item_id": "item_1",
        "output_index": 0,
        "content_index": 0,
        "delta": base64.b64encode(bytes(480_000)).decode(),
    }
    return [{"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}, delta]


async def test_a_listener_of_the_sessions_model_hears_each_event_raw_first() -> None:
    ear = Ear()
    async with model_server() as server:
        session = await RealtimeRunner(AGENT).run(model_config={"api_key": "k", "url": server.url})
        session.model.add_listener(ear)
        async with session:
            await server.say(*speaking(), {"type": "new.kind"})
            await wait_until(lambda: "new.kind" in ear.raw(), description="the last event")
    start = ear.raw().index("response.created")
    assert ear.raw()[start:][:2] == ["response.created", "response.output_audio.delta"]
    first = ear.types().index("turn_started")
    assert ear.types()[first - 1 : first + 3] == ["raw_server_event", "turn_started", "raw_server_event", "audio"]


@pytest.mark.parametrize("named", [None, "gpt-realtime-mini"])
async def test_a_session_is_of_the_model_of_its_address_whatever_its_settings_name(named: str | None) -> None:
    async with model_server() as server:
        runner = RealtimeRunner(AGENT, config={"model_settings": {"model_name": named} if named else {}})
        async with await runner.run(model_config={"api_key": "k", "url": f"{server.url}?model=deployed"}):
            assert (await server.hears("session.update"))["session"]["model"] == "deployed"


async def test_the_first_answer_follows_the_instructions_also_where_settings_name_another_model_than_the_address() -> (
    None
):
    runner = RealtimeRunner(AGENT, config={"model_settings": {"model_name": "gpt-realtime-mini"}})
    told: list[str] = []
    async with running_simulator() as simulator:
        url = f"{simulator.url}?model=gpt-realtime"
        async with await runner.run(model_config={"api_key": "k", "url": url}) as session:
            await session.send_message("[[say: Hello.]]")
            async for event in session:
                if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                    told.append(event.data.data["type"])
                if event.type == "agent_end":
                    break
    assert "error" not in told
    assert told.index("session.updated") < told.index("response.created")


async def test_a_raw_message_goes_through_the_session() -> None:
    async with model_server() as server:
        session = await RealtimeRunner(AGENT).run(model_config={"api_key": "k", "url": server.url})
        async with session:
            await session.model.send_event(RealtimeModelSendRawMessage({"type": "input_audio_buffer.clear"}))
            await server.hears("input_audio_buffer.clear")
            await session.model.send_event(RealtimeModelSendRawMessage({"type": "no.such.event"}))
            async for event in session:
                if event.type == "error":
                    assert "no.such.event" in str(event.error)
                    break
        assert "no.such.event" not in server.types()


@pytest.mark.parametrize("alone", [False, True], ids=["in a session", "by itself"])
async def test_raw_events_have_the_metadata_that_the_program_gave(alone: bool) -> None:
    """And none where it gave none: programs tell answers of their own from others by that.

    An answer beside the conversation is in no history, as the model does not know of it either.
    """
    ear, aside = Ear(), {"response": {"conversation": "none", "metadata": {"topic": "aside"}}}
    async with running_simulator() as simulator, AsyncExitStack() as stack:
        options: RealtimeModelConfig = {"api_key": "k", "url": simulator.url}
        model: RealtimeModel = OpenAIRealtimeWebSocketModel()
        if not alone:
            session = await stack.enter_async_context(await RealtimeRunner(AGENT).run(model_config=options))
            model = session.model
        model.add_listener(ear)
        if alone:
            stack.push_async_callback(model.close)
            await model.connect(options)
        await model.send_event(RealtimeModelSendUserInput("hello"))
        await wait_until(lambda: "response.done" in ear.raw(), description="the answer")
        await model.send_event(RealtimeModelSendRawMessage({"type": "response.create", "other_data": aside}))
        await wait_until(lambda: ear.raw().count("response.done") == 2, description="the answer of its own")
        if not alone:
            messages = [item for item in session.history if item.type == "message"]
            assert [item.role for item in messages] == ["user", "assistant"]
    for kind in ("response.created", "response.done"):
        raw = [event.data for event in ear.heard if isinstance(event, RealtimeModelRawServerEvent)]
        shown = [event["response"]["metadata"] for event in raw if event["type"] == kind]
        assert shown == [None, {"topic": "aside"}]


async def test_a_tracker_says_where_the_session_truncates() -> None:
    tracker, ear = RealtimePlaybackTracker(), Ear()
    async with model_server() as server:
        session = await RealtimeRunner(AGENT).run(
            model_config={"api_key": "k", "url": server.url, "playback_tracker": tracker}
        )
        session.model.add_listener(ear)
        async with session:
            await server.say(*speaking())
            await wait_until(lambda: "audio" in ear.types(), description="the audio")
            tracker.on_play_bytes("item_1", 0, bytes(48_000))
            await session.interrupt()
            truncate = await server.hears("conversation.item.truncate")
            assert truncate["audio_end_ms"] == 1000
            await wait_until(lambda: "audio_interrupted" in ear.types(), description="the interruption")
            assert tracker.get_state()["current_item_id"] is None


async def test_a_model_whose_sending_was_replaced_is_used_as_a_model_of_ones_own() -> None:
    sent: list[RealtimeModelSendEvent] = []

    class Noting(OpenAIRealtimeWebSocketModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            sent.append(event)
            await super().send_event(event)

    async with model_server() as server:
        runner = RealtimeRunner(AGENT, model=Noting())
        session = await runner.run(model_config={"api_key": "k", "url": server.url})
        async with session:
            await session.send_message("hello")
            await server.hears("response.create")
            update = await server.hears("session.update")
            assert update["session"]["instructions"] == "Help."
    assert [type(event).__name__ for event in sent] == ["RealtimeModelSendUserInput"]
