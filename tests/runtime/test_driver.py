"""The driver alone: a scripted engine above, fakes at every port below."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.journal import ErrorRecorded, EventType, SessionEnded
from voicebus.engine import inputs, outputs
from voicebus.engine.config import AgentSpec, Face, SessionConfig
from voicebus.engine.state import State
from voicebus.errors import BusError, ContractError, ModelLinkError, UserError
from voicebus.ports import ModelLink, ModelListener, SessionRef
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.frames import AudioDelta
from voicebus.runtime.surroundings import Bus

AUDIO = b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0,'
REF = SessionRef("S", 1, None)


class Clock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def at_ms(self) -> int:
        return 1000


@dataclass
class World:
    """Every port, and what was asked of it, in order."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    deliver: Callable[[Entry], None] | None = None
    fail_dispatch: Exception | None = None
    closed: int = 0

    def dispatch(self, session: SessionRef, call: outputs.DispatchTool) -> None:
        if self.fail_dispatch:
            raise self.fail_dispatch
        self.calls.append(("dispatch", call.call_id))

    def cancel(self, session: SessionRef, cancel: outputs.CancelTool) -> None:
        self.calls.append(("cancel", cancel.call_id))

    def check(self, session: SessionRef, check: outputs.DispatchCheck, *, timeout_ms: int) -> None:
        self.calls.append(("check", check.check_id, timeout_ms))

    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        return 1

    def append(self, session: SessionRef, record: outputs.Record, at_ms: int) -> None:
        self.calls.append(("append", record.seq, record.type.value))

    async def close(self, session: SessionRef) -> None:
        self.closed += 1

    def subscribe(self, session: str, deliver: Callable[[Entry], None]) -> None:
        self.deliver = deliver

    def unsubscribe(self, session: str) -> None:
        self.deliver = None


@dataclass
class Link:
    sent: list[Any] = field(default_factory=list)
    closed: bool = False

    def send(self, event: Mapping[str, Any]) -> None:
        self.sent.append(event)

    def send_frame(self, frame: bytes) -> None:
        self.sent.append(frame)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Connector:
    link: Link = field(default_factory=Link)
    error: ModelLinkError | None = None
    before_it_returns: tuple[bytes, ...] = ()
    gate: asyncio.Event | None = None

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        if self.error:
            raise self.error
        for frame in self.before_it_returns:
            listener.model_frame(frame)
        if self.gate is not None:
            await self.gate.wait()
        return self.link


@dataclass
class Client:
    heard: list[tuple[Any, ...]] = field(default_factory=list)
    on_event: Callable[[], None] | None = None

    def ready(self) -> None:
        self.heard.append(("ready",))

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self.heard.append(("record", seq, kind.value))

    def emit(self, kind: str, seq: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self.heard.append(("emit", kind, seq))

    def server_event(self, event: Mapping[str, Any]) -> None:
        self.heard.append(("event", event["type"]))
        if self.on_event is not None:
            self.on_event()

    def audio(self, where: outputs.ForwardAudio, delta: AudioDelta, seq: int) -> None:
        self.heard.append(("audio", delta.samples))

    def close(self, code: int, reason: str) -> None:
        self.heard.append(("close", code, reason))


Rule = Callable[[Any], Sequence[outputs.Output]]


class Engine:
    """Answers each input by the rule for its type; remembers what it was given."""

    def __init__(self, rules: Mapping[type, Rule] | None = None, start: Sequence[outputs.Output] = ()) -> None:
        self.given: list[Any] = []
        self.rules = dict(rules or {})
        self._start = start
        self.state = State.LIVE
        self.rules.setdefault(inputs.End, lambda end: [outputs.Close(end.reason)])

    def start(self) -> Sequence[outputs.Output]:
        return self._start

    def handle(self, event: inputs.Input, now: float) -> Sequence[outputs.Output]:
        self.given.append(event)
        rule = self.rules.get(type(event))
        return rule(event) if rule is not None else []


class Running:
    """A driver with its world, run as a task."""

    def __init__(self, engine: Engine, connector: Connector | None = None, **more: Any) -> None:
        self.world, self.client, self.engine = World(), Client(), engine
        self.connector = connector or Connector()
        config = SessionConfig("S", Face.NATIVE, AgentSpec("a"), "m")

        async def resolve(ask: outputs.ResolveAgent) -> AgentSpec:
            outcome = more["resolve"](ask)
            if isinstance(outcome, Exception):
                raise outcome
            return AgentSpec(ask.to_agent)

        bus = Bus(Clock(), self.world, self.world, self.world, self.world)
        self.driver = SessionDriver(engine, config, REF, bus, self.client, resolve=resolve)
        self.task = asyncio.create_task(self.driver.run(self.connector))

    async def live(self) -> "Running":
        await wait_until(lambda: ("ready",) in self.client.heard, description="the session to be live")
        return self

    async def over(self, reason: str = "ended") -> str:
        self.driver.feed(inputs.End(reason))
        return await self.task


def every_output() -> list[outputs.Output]:
    failed = ErrorRecorded(code="c", message="m", source="model", at_ms=0)
    return [
        outputs.SendModel({"type": "session.update"}),
        outputs.Record(1, EventType.ERROR, failed),
        outputs.Emit("history_updated", {"history": []}),
        outputs.ToClient({"type": "session.created"}),
        outputs.DispatchTool("c1", "t", "{}", "a", "q", 1000, False),
        outputs.CancelTool("c1", "q", None, "gone"),
        outputs.DispatchCheck("k1", "r", "i", "a", ("g",), "text", True),
        outputs.Observe("barge_in"),
        outputs.Ignored("nothing"),
    ]


async def test_outputs_are_performed_in_order_and_then_the_client_may_speak() -> None:
    running = await Running(Engine(start=every_output())).live()
    assert running.connector.link.sent == [{"type": "session.update"}]
    assert running.client.heard == [
        ("record", 1, "error"), ("emit", "history_updated", 1), ("event", "session.created"), ("ready",),
    ]  # fmt: skip
    assert running.world.calls == [("append", 1, "error"), ("dispatch", "c1"), ("cancel", "c1"), ("check", "k1", 2000)]
    assert await running.over() == "ended"
    assert running.client.heard[-1] == ("close", 1000, "ended")


async def test_audio_is_forwarded_only_where_the_engine_lets_it_pass() -> None:
    def judge(audio: inputs.ModelAudio) -> Sequence[outputs.Output]:
        where = outputs.ForwardAudio(audio.response_id, audio.item_id, 0, 0)
        return [where] if audio.size == 2 else []

    running = await Running(Engine({inputs.ModelAudio: judge})).live()
    running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
    running.driver.model_frame(AUDIO + b'"delta":"AAAA"}')
    assert running.engine.given == [inputs.ModelAudio("r", "i", 0, 0, 2), inputs.ModelAudio("r", "i", 0, 0, 3)]
    assert running.client.heard[1:] == [("audio", b"\0\0")]
    await running.over()


@pytest.mark.parametrize(
    "frame",
    [b"{", b"[]", b'{"no":"type"}', b'{"type":1}', b"\xff", AUDIO + b'"delta":"A\\"B"}', AUDIO + b'"x":1}'],
)
async def test_a_frame_that_is_no_event_reaches_the_engine_as_such(frame: bytes) -> None:
    running = await Running(Engine()).live()
    running.driver.model_frame(frame)
    assert [type(event) for event in running.engine.given] == [inputs.ModelMalformed]
    await running.over()


async def test_frames_that_come_before_the_engine_started_are_heard_after_it_did() -> None:
    connector = Connector(before_it_returns=(b'{"type":"session.created"}',))
    running = await Running(Engine(start=[outputs.SendModel({"type": "session.update"})]), connector).live()
    assert running.engine.given == [inputs.ModelEvent({"type": "session.created"})]
    await running.over()


async def test_the_client_is_heard_only_once_the_session_is_configured() -> None:
    engine = Engine()
    engine.state = State.CONFIGURING

    def configured(_: inputs.ModelEvent) -> Sequence[outputs.Output]:
        engine.state = State.LIVE
        return [outputs.ToClient({"type": "session.created"})]

    engine.rules[inputs.ModelEvent] = configured
    running = Running(engine)
    await wait_until(lambda: running.driver.live, description="the engine's start")
    assert running.client.heard == []
    running.driver.model_frame(b'{"type":"session.updated"}')
    assert running.client.heard == [("event", "session.created"), ("ready",)]
    await running.over()


async def test_an_input_that_comes_during_outputs_waits_its_turn() -> None:
    said = outputs.ToClient({"type": "x"})
    engine = Engine({inputs.CommitAudio: lambda _: [said, said]})
    running = await Running(engine).live()
    running.client.on_event = lambda: running.driver.feed(inputs.Interrupt())
    running.driver.feed(inputs.CommitAudio())
    assert engine.given == [inputs.CommitAudio(), inputs.Interrupt(), inputs.Interrupt()]
    assert running.client.heard[1:] == [("event", "x"), ("event", "x")]
    await running.over()


async def test_nothing_happens_after_the_end() -> None:
    running = await Running(Engine()).live()
    await running.over()
    given = list(running.engine.given)
    running.driver.feed(inputs.Interrupt())
    running.driver.model_frame(b'{"type":"x"}')
    running.driver.model_lost("late", 1006)
    running.driver.send_audio(b"late")
    assert running.engine.given == given
    assert running.connector.link == Link(sent=[], closed=True)
    assert running.world.closed == 1
    assert running.world.deliver is None


async def test_an_engine_that_raises_ends_its_session_with_a_record() -> None:
    def fail(_: inputs.Interrupt) -> Sequence[outputs.Output]:
        raise ZeroDivisionError

    running = await Running(Engine({inputs.Interrupt: fail})).live()
    running.driver.feed(inputs.Interrupt())
    assert await running.task == "error"
    assert running.client.heard[1:] == [
        ("record", 1, "error"), ("record", 2, "session_ended"), ("close", 1011, "error"),
    ]  # fmt: skip
    assert running.world.calls == [("append", 1, "error"), ("append", 2, "session_ended")]


async def test_a_model_that_cannot_be_reached_is_told_to_the_engine_and_the_client_may_not_speak() -> None:
    def lost(event: inputs.LinkLost) -> Sequence[outputs.Output]:
        engine.state = State.CLOSED
        return [
            outputs.Record(1, EventType.SESSION_ENDED, SessionEnded(reason="model_lost", duration_ms=0)),
            outputs.Close("model_lost", 1011),
        ]

    error = ModelLinkError("the model at 10.0.0.7:443 refused", code="invalid_api_key", fatal=True)
    engine = Engine({inputs.LinkLost: lost})
    engine.state = State.CONNECTING
    running = Running(engine, Connector(error=error))
    assert await running.task == "model_lost"
    assert running.engine.given == [inputs.LinkLost("The model cannot be reached.", code="invalid_api_key")]
    assert running.client.heard == [("record", 1, "session_ended"), ("close", 1011, "model_lost")]


async def test_a_client_that_leaves_while_the_model_is_dialled_is_recorded_too() -> None:
    connector = Connector(gate=asyncio.Event())
    started = outputs.Record(1, EventType.ERROR, ErrorRecorded(code="c", message="m", source="model", at_ms=0))
    running = Running(Engine(start=[started]), connector)
    await wait_until(lambda: running.world.deliver, description="the dialling")
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert running.engine.given == [inputs.End("hangup")]
    assert running.world.calls == [("append", 1, "error")]
    assert running.world.closed == 1


async def test_timers_fire_once_are_replaced_by_key_and_die_with_the_session() -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    engine = Engine(
        {
            inputs.Interrupt: lambda _: [
                outputs.SetTimer("soon", loop.time() + 0.01),
                outputs.SetTimer("replaced", now - 1),
                outputs.SetTimer("replaced", now + 3600),
                outputs.SetTimer("cancelled", loop.time() + 0.01),
                outputs.CancelTimer("cancelled"),
                outputs.CancelTimer("never set"),
            ]
        }
    )
    running = await Running(engine).live()
    running.driver.feed(inputs.Interrupt())
    await wait_until(lambda: len(engine.given) > 1, description="the timer")
    await asyncio.sleep(0.05)  # a cancelled timer would have fired by now
    assert engine.given == [inputs.Interrupt(), inputs.TimerFired("soon")]
    await running.over()


ASK = outputs.ResolveAgent("c1", "transfer_to_b", "a", "b", "{}")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (None, inputs.AgentResolved("c1", AgentSpec("b"))),
        (UserError("two tools"), inputs.AgentUnresolved("c1", "two tools")),
        (BusError("Redis at 10.0.0.8"), inputs.AgentUnresolved("c1", "The handoff to b failed: BusError.")),
        (KeyError("x"), inputs.AgentUnresolved("c1", "The handoff to b failed: KeyError.")),
    ],
)
async def test_an_agent_is_resolved_beside_the_session(outcome: Exception | None, expected: inputs.Input) -> None:
    engine = Engine({inputs.Interrupt: lambda _: [ASK]})
    running = await Running(engine, resolve=lambda _: outcome).live()
    running.driver.feed(inputs.Interrupt())
    await wait_until(lambda: len(engine.given) > 1, description="the answer")
    assert engine.given[1] == expected
    await running.over()


async def test_a_bus_that_refuses_a_call_is_trouble_and_not_the_end() -> None:
    call = outputs.DispatchTool("c1", "t", "{}", "a", "q", 1000, False)
    running = await Running(Engine({inputs.Interrupt: lambda _: [call]})).live()
    running.world.fail_dispatch = BusError("Redis at 10.0.0.8 is away")
    running.driver.feed(inputs.Interrupt())
    assert running.engine.given[1:] == [inputs.Trouble("bus_unavailable", "The workers cannot be reached.", "bus")]
    assert await running.over() == "ended"


def entry(kind: str, data: Mapping[str, Any]) -> Entry:
    return Entry(id="1", type=kind, session="S", epoch=1, at=1, data=dict(data))


async def test_entries_of_the_inbox_become_inputs_and_malformed_ones_are_refused() -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    deliver(entry("tool.started", {"call_id": "c1", "worker": "w"}))
    deliver(entry("tool.progress", {"call_id": "c1", "text": "50 %"}))
    deliver(
        entry("tool.result", {"call_id": "c1", "outcome": "ok", "output": "1", "worker": "w", "duration_ms": 1})
    )  # fmt: skip
    deliver(
        entry("guardrail.verdict", {"check_id": "k", "response_id": "r", "results": [], "worker": "", "duration_ms": 1})
    )  # fmt: skip
    for wrong in (entry("tool.result", {"call_id": "c1"}), entry("of.tomorrow", {})):
        with pytest.raises(ContractError):
            deliver(wrong)
    assert [type(event) for event in running.engine.given] == [
        inputs.ToolStartedArrived, inputs.ToolProgressArrived, inputs.ToolResultArrived, inputs.VerdictArrived,
    ]  # fmt: skip
    await running.over()


async def test_a_job_that_fails_ends_the_session() -> None:
    running = await Running(Engine()).live()

    async def fail() -> None:
        raise RuntimeError(json.dumps({}))

    running.driver.job("fails", fail())
    assert await running.task == "error"
