"""The engine against a real server of the protocol: what it sends is accepted, and the two agree on what was said."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from support.simulator import SimulatorHandle, running_simulator
from support.talk import Talk, agent, handoff, tool
from support.waiting import wait_until
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec, GuardrailSpec
from voicebus.engine.inputs import AgentResolved, CommitAudio, End, Input, Interrupt, ModelAudio, ModelEvent, TimerFired
from voicebus.engine.outputs import DispatchCheck, DispatchTool, ForwardAudio, Output, SendModel
from voicebus_services.model_simulator.tape import record


class Call:
    """A session on an open socket, without timers: the tests that need one let it fire themselves."""

    def __init__(self, talk: Talk, socket: ClientConnection) -> None:
        self.talk = talk
        self.socket = socket
        self.errors: list[Any] = []
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock() - talk.now

    async def put(self, item: Input) -> list[Output]:
        self.talk.now = self._clock() - self._began
        outputs = self.talk.put(item)
        await self.send(outputs)
        return outputs

    async def send(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, SendModel):
                await self.socket.send(json.dumps(output.event))

    async def fire(self, key: str) -> list[Output]:
        """Let a timer fire at its time, to which the session's clock jumps."""
        self._began -= max(0.0, self.talk.timers()[key] - self._clock() + self._began)
        return await self.put(TimerFired(key))

    async def listen(self) -> None:
        async for frame in self.socket:
            event = json.loads(frame)
            if event["type"] == "response.output_audio.delta":
                size = len(base64.b64decode(event["delta"]))
                place = (event["response_id"], event["item_id"], event["output_index"], event["content_index"])
                await self.put(ModelAudio(*place, size))
            else:
                if event["type"] == "error":
                    self.errors.append(event["error"])
                await self.put(ModelEvent(event))

    async def append(self, audio: bytes) -> None:
        for start in range(0, len(audio), 4800):
            chunk = base64.b64encode(audio[start : start + 4800]).decode()
            await self.socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": chunk}))

    async def turns(self, count: int) -> None:
        """Wait for the end of that many responses."""
        description = f"{count} responses to end"
        await wait_until(lambda: len(self.talk.records(EventType.TURN_ENDED)) >= count, description=description)

    async def say(self, text: str) -> None:
        self.talk.now = self._clock() - self._began
        await self.send(self.talk.asks(text))


@asynccontextmanager
async def calling(simulator: SimulatorHandle, who: AgentSpec) -> AsyncIterator[Call]:
    talk = Talk(who)
    headers = {"Authorization": "Bearer test"}
    async with connect(f"{simulator.url}?model=gpt-realtime", additional_headers=headers, max_size=None) as socket:
        call = Call(talk, socket)
        await call.send(talk.all)
        listening = asyncio.create_task(call.listen(), name="listen")
        try:
            await wait_until(lambda: talk.session.state.value == "live", description="the session to be configured")
            yield call
            assert not call.errors, "the model refused something"
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator(pace=0) as handle:
        yield handle


@pytest.fixture
async def slow_simulator() -> AsyncIterator[SimulatorHandle]:
    """Speaks piece by piece, as the test allows."""
    async with running_simulator(pace="step") as handle:
        yield handle


async def test_a_text_turn(simulator: SimulatorHandle) -> None:
    async with calling(simulator, agent(vad=None)) as call:
        await call.say("[[say: Good morning.]]")
        await call.turns(1)
        assert call.talk.of(ForwardAudio)
        await call.put(End("hangup"))
        assert [line[:2] for line in call.talk.lines()] == [
            ("user", "[[say: Good morning.]]"),
            ("assistant", "Good morning."),
        ]


async def test_a_spoken_turn_under_vad_and_one_committed_by_hand(simulator: SimulatorHandle) -> None:
    for vad in ({"type": "server_vad", "create_response": True, "interrupt_response": True}, None):
        async with calling(simulator, agent(vad=vad)) as call:
            await call.append(record("[[say: Yes.]]") + bytes(48_000))
            if vad is None:
                await call.put(CommitAudio())
            await call.turns(1)
            await wait_until(call.talk.lines, description="the user's line")
            await call.put(End("hangup"))
            assert [line[:2] for line in call.talk.lines()] == [("user", "[[say: Yes.]]"), ("assistant", "Yes.")]
            assert call.talk.errors() == []


async def test_two_tools_of_one_response_are_answered_together(simulator: SimulatorHandle) -> None:
    async with calling(simulator, agent(tools=[tool("a"), tool("b")], vad=None)) as call:
        await call.say("[[call: a {}]] [[call: b {}]] [[next]] [[say: Got {outputs}]]")
        await wait_until(lambda: len(call.talk.of(DispatchTool)) == 2, description="both calls")
        for dispatch, output in zip(call.talk.of(DispatchTool), ("one", "two"), strict=True):
            for sent in call.talk.result(output, dispatch.call_id):
                if isinstance(sent, SendModel):
                    await call.socket.send(json.dumps(sent.event))
        await call.turns(2)
        assert len(call.talk.sent("response.create")) == 2
        await call.put(End("hangup"))
        answer = call.talk.lines()[-1][1]
        assert "one" in answer
        assert "two" in answer


async def test_a_handoff(simulator: SimulatorHandle) -> None:
    async with calling(simulator, agent(handoffs=[handoff("billing")], vad=None)) as call:
        await call.say("[[call: transfer_to_billing {}]] [[next]] [[say: Billing here.]]")
        (key,) = await wait_until(
            lambda: [key for key in call.talk.timers() if key.startswith("call:")], description="the handoff's timer"
        )
        await call.put(AgentResolved(key.removeprefix("call:"), agent("billing", vad=None)))
        await call.turns(2)
        assert [turn.agent for turn in call.talk.records(EventType.TURN_ENDED)] == ["helper", "billing"]


async def test_a_response_that_stalls_is_given_up_and_the_conversation_goes_on(simulator: SimulatorHandle) -> None:
    async with calling(simulator, agent(vad=None)) as call:
        await call.say("[[say: One two three.]] [[fault: stall]]")
        await wait_until(lambda: call.talk.emitted("agent_start"), description="the response")
        await call.say("[[say: Four.]]")
        while not call.talk.errors():  # set again as long as something of the response comes
            await call.fire("stall")
        await call.turns(2)
        assert call.talk.errors() == ["response_stalled"]
        assert [turn.status for turn in call.talk.records(EventType.TURN_ENDED)] == ["failed", "completed"]
        await call.put(End("hangup"))
        assert call.talk.lines()[-1][1] == "Four."


async def test_an_interruption_is_truncated_where_the_listener_was(slow_simulator: SimulatorHandle) -> None:
    async with calling(slow_simulator, agent(vad=None)) as call:
        await call.say("[[say: One two three four five six seven eight nine ten]]")
        await wait_until(lambda: call.talk.emitted("agent_start"), description="the response")
        slow_simulator.step(12)
        await wait_until(lambda: len(call.talk.of(ForwardAudio)) > 3, description="some audio")
        await call.put(Interrupt())
        await call.turns(1)
        (cut,) = call.talk.sent("conversation.item.truncate")
        truncated = await wait_until(
            lambda: [
                item.event
                for item, _ in call.talk.inputs
                if isinstance(item, ModelEvent) and item.event["type"] == "conversation.item.truncated"
            ],
            description="the model to have truncated",
        )
        assert truncated[0]["audio_end_ms"] == cut["audio_end_ms"]
        await call.put(End("hangup"))
        _, text, heard, was_truncated = call.talk.lines()[-1]
        assert was_truncated
        assert heard is not None
        assert text.startswith(heard)


async def test_a_guardrail_stops_an_answer_and_the_model_is_told(slow_simulator: SimulatorHandle) -> None:
    async with calling(slow_simulator, agent(guardrails=[GuardrailSpec("rude", debounce=5)], vad=None)) as call:
        await call.say("[[say: That is a damned long sentence to be heard in full by anybody]]")
        await wait_until(lambda: call.talk.emitted("agent_start"), description="the response")
        slow_simulator.step(12)
        (check, *_) = await wait_until(lambda: call.talk.of(DispatchCheck), description="a check")
        for output in call.talk.verdict(check.check_id, GuardrailResult(name="rude", tripped=True)):
            if isinstance(output, SendModel):
                await call.socket.send(json.dumps(output.event))
        await call.turns(1)
        slow_simulator.step(500)
        await call.turns(2)
        assert [turn.status for turn in call.talk.records(EventType.TURN_ENDED)] == ["cancelled", "completed"]
        assert call.talk.records(EventType.GUARDRAIL_TRIPPED)[0].guardrails == ["rude"]
