"""A model lent to a session: its link, its listeners, and what it is told, through the session's own driver."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.model_ear import Ear
from support.model_server import model_server
from support.waiting import wait_until
from voicebus.agents.items import RealtimeToolCallItem
from voicebus.agents.models.events import (
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelOtherEvent,
    RealtimeModelToolCallEvent,
)
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig, RealtimeModelListener
from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel, is_plain
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.agents.models.sends import (
    RealtimeModelSendAudio,
    RealtimeModelSendEvent,
    RealtimeModelSendRawMessage,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
)
from voicebus.agents.models.sip import OpenAIRealtimeSIPModel
from voicebus.engine.inputs import CommitAudio, Input, Playback, SendMessage, SendToolOutput, Trouble
from voicebus.errors import UserError


@dataclass
class Port:
    """A session's driver, as far as a model knows it."""

    fed: list[Input] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)

    def feed(self, item: Input) -> None:
        self.fed.append(item)

    def send_audio(self, frame: bytes) -> None:
        self.frames.append(frame)


@dataclass
class Frames:
    """The session's side of the link."""

    heard: list[bytes] = field(default_factory=list)
    lost: list[int | None] = field(default_factory=list)

    def model_frame(self, frame: bytes) -> None:
        self.heard.append(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self.lost.append(close_code)


def attached() -> tuple[OpenAIRealtimeWebSocketModel, Port, Ear]:
    model, port, ear = OpenAIRealtimeWebSocketModel(), Port(), Ear()
    model.add_listener(ear)
    model.attach(port)
    return model, port, ear


async def test_what_the_model_is_told_goes_to_the_session() -> None:
    model, port, ear = attached()
    call = RealtimeModelToolCallEvent("t", "c", "{}", id="i")
    await model.send_event(RealtimeModelSendUserInput("hi"))
    await model.send_event(RealtimeModelSendAudio(b"ab", commit=True))
    await model.send_event(RealtimeModelSendToolOutput(call, "out", start_response=False))
    assert port.fed == [
        SendMessage([{"type": "input_text", "text": "hi"}]),
        CommitAudio(respond=False),
        SendToolOutput("c", "out", respond=False),
    ]
    assert port.frames == [b'{"type":"input_audio_buffer.append","audio":"YWI="}']
    await wait_until(lambda: ear.heard, description="the answered call")
    assert ear.heard == [
        RealtimeModelItemUpdatedEvent(
            RealtimeToolCallItem(item_id="i", call_id="c", status="completed", arguments="{}", name="t", output="out")
        )
    ]
    await model.detach()


async def test_a_raw_message_that_is_none_is_trouble_to_the_session_and_an_error_to_listeners() -> None:
    model, port, ear = attached()
    await model.send_event(RealtimeModelSendRawMessage({"type": "nothing.known"}))
    (trouble,) = port.fed
    assert isinstance(trouble, Trouble)
    await wait_until(lambda: ear.heard, description="the error")
    assert ear.heard == [RealtimeModelErrorEvent({"code": trouble.code, "message": trouble.message})]
    await model.detach()


async def test_listeners_hear_what_the_session_publishes() -> None:
    model, _, ear = attached()
    other = Ear()
    model.add_listener(other)
    model.publish(RealtimeModelOtherEvent(1))
    await wait_until(lambda: ear.heard, description="the event")
    model.remove_listener(ear)
    model.publish(RealtimeModelOtherEvent(2))
    await wait_until(lambda: len(other.heard) == 2, description="the second event")
    assert ear.heard == [RealtimeModelOtherEvent(1)]
    await model.detach()


@pytest.mark.parametrize("raised", [RuntimeError, asyncio.CancelledError, SystemExit])
async def test_a_listener_that_raises_is_trouble_to_the_session_and_others_hear(raised: type[BaseException]) -> None:
    class Broken(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            raise raised

    model, port, ear = attached()
    model.remove_listener(ear)
    model.add_listener(Broken())
    model.add_listener(ear)
    model.publish(RealtimeModelOtherEvent(1))
    await wait_until(lambda: ear.heard == [RealtimeModelOtherEvent(1)], description="the event")
    await wait_until(lambda: port.fed, description="the trouble")
    (trouble,) = port.fed
    assert isinstance(trouble, Trouble)
    assert (trouble.code, trouble.source) == ("listener_failed", "client")
    await model.detach()


async def test_a_listener_that_raises_once_nobody_is_there_any_more_is_only_logged() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    class Late(RealtimeModelListener):
        async def on_event(self, event: RealtimeModelEvent) -> None:
            started.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                raise RuntimeError("mine") from None

    model, port, _ = attached()
    model.add_listener(Late())
    model.publish(RealtimeModelOtherEvent(1))
    await started.wait()
    await model.detach()
    assert port.fed == []


async def test_one_session_drives_a_model_at_a_time() -> None:
    model, _, _ = attached()
    with pytest.raises(AssertionError, match="Already connected"):
        model.attach(Port())
    with pytest.raises(AssertionError, match="Already connected"):
        await model.connect({"api_key": "k"})
    await model.close()  # the session's to end
    await model.send_event(RealtimeModelSendUserInput("still there"))
    await model.detach()
    with pytest.raises(AssertionError, match="Not connected"):
        await model.send_event(RealtimeModelSendUserInput("gone"))
    other = Port()
    model.attach(other)
    await model.send_event(RealtimeModelSendUserInput("again"))
    assert len(other.fed) == 1
    await model.detach()


async def test_the_link_is_dialled_and_nothing_is_said_on_it() -> None:
    model, _, _ = attached()
    frames = Frames()
    async with model_server() as server:
        link = await model.open({"api_key": "k", "url": server.url}, listener=frames, model="m")
        await wait_until(lambda: frames.heard, description="the greeting")
        assert server.heard == []
        assert server.requests[0].path == "/v1/realtime?model=m"
        link.send({"type": "input_audio_buffer.clear"})
        await server.hears("input_audio_buffer.clear")
        await link.close()
        await wait_until(lambda: server.ended, description="the end")
    assert frames.lost == []
    await model.detach()


async def test_a_tracker_reports_to_the_session_while_it_drives_the_model() -> None:
    model, port, _ = attached()
    tracker = RealtimePlaybackTracker()
    async with model_server() as server:
        options: RealtimeModelConfig = {"api_key": "k", "url": server.url, "playback_tracker": tracker}
        link = await model.open(options, listener=Frames(), model="m")
        audio: dict[str, Any] = {"output": {"format": {"type": "audio/pcmu"}}}
        link.send({"type": "session.update", "session": {"audio": audio}})
        link.send_frame(b'{"type":"input_audio_buffer.clear"}')
        await server.hears("input_audio_buffer.clear")
        tracker.on_play_bytes("i", 0, bytes(80))
        assert port.fed == [Playback("i", 0, 10)]
        model.publish(RealtimeModelAudioInterruptedEvent("i", 0))
        assert tracker.get_state()["current_item_id"] is None
        again = await model.open(options, listener=Frames(), model="m")  # the link was lost, and is there again
        tracker.on_play_ms("j", 0, 5)
        assert port.fed[1:] == [Playback("j", 0, 5)]
        await link.close()
        await again.close()
        await model.detach()
        assert tracker.get_state()["current_item_id"] is None, "nothing is played any more"
        tracker.on_play_ms("j", 0, 5)
        assert len(port.fed) == 2


async def test_a_played_sample_that_arrives_late_finds_nobody() -> None:
    model, port, _ = attached()
    await model.detach()
    model._played("i", 0, 5)
    assert port.fed == []


async def test_joining_a_call_needs_its_id_for_a_session_too() -> None:
    model = OpenAIRealtimeSIPModel()
    with pytest.raises(UserError, match="call_id"):
        await model.open({"api_key": "k"}, listener=Frames(), model="m")


class Custom(RealtimeModel):
    """The least that a model must be."""

    async def connect(self, options: RealtimeModelConfig) -> None: ...

    def add_listener(self, listener: RealtimeModelListener) -> None: ...

    def remove_listener(self, listener: RealtimeModelListener) -> None: ...

    async def send_event(self, event: RealtimeModelSendEvent) -> None: ...

    async def close(self) -> None: ...


class Renamed(OpenAIRealtimeWebSocketModel):
    """Nothing of it was replaced."""


class Listening(OpenAIRealtimeWebSocketModel):
    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        await super().send_event(event)


class Dialling(OpenAIRealtimeSIPModel):
    async def connect(self, options: RealtimeModelConfig) -> None:
        await super().connect(options)


def test_a_session_drives_our_own_models_unless_their_behaviour_was_replaced() -> None:
    assert is_plain(OpenAIRealtimeWebSocketModel())
    assert is_plain(OpenAIRealtimeSIPModel())
    assert is_plain(Renamed())
    assert not is_plain(Listening())
    assert not is_plain(Dialling())
    assert not is_plain(Custom())
    assert not is_plain(None)


async def test_a_model_of_ones_own_sends_nothing_on_a_condition_unless_it_says_how() -> None:
    model = Custom()
    assert not await model.send_event_if(RealtimeModelSendUserInput("hi"), lambda: True)
    model._retire_response_audio("resp_1")


async def test_a_subclass_may_add_to_what_it_sends() -> None:
    sent: list[RealtimeModelSendEvent] = []

    class Noting(OpenAIRealtimeWebSocketModel):
        async def send_event(self, event: RealtimeModelSendEvent) -> None:
            sent.append(event)
            await super().send_event(event)

    async with model_server() as server:
        model = Noting()
        await model.connect({"api_key": "k", "url": server.url})
        assert await model.send_event_if(RealtimeModelSendUserInput("hi"), lambda: True)
        await server.hears("conversation.item.create")
        await model.close()
    assert sent == [RealtimeModelSendUserInput("hi")]
