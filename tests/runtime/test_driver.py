"""The driver alone: a scripted engine above, fakes at every port below."""

import asyncio
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from support.waiting import wait_until
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.journal import DecidedBy, ErrorRecorded, EventType, SessionEnded
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine import inputs, outputs
from voicebus.engine.config import AgentSpec, Face, SessionConfig
from voicebus.engine.state import State
from voicebus.errors import BusError, CommandRefusedError, ContractError, ModelLinkError, UserError
from voicebus.ports import Deliver, ModelLink, ModelListener, SessionRef
from voicebus.runtime import asking
from voicebus.runtime.asking import UNCHECKED
from voicebus.runtime.driver import SessionDriver
from voicebus.runtime.frames import AudioDelta, TextDelta
from voicebus.runtime.surroundings import Bus, ModelTap

AUDIO = b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","output_index":0,"content_index":0,'
TEXT = (
    b'{"type":"response.output_audio_transcript.delta","response_id":"r","item_id":"i","output_index":0,'
    b'"content_index":0,'
)
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
    deliver: Deliver | None = None
    states: list[dict[str, str]] = field(default_factory=list)
    unwritten: list[Callable[[], None]] = field(default_factory=list)
    closed: int = 0

    def dispatch(self, session: SessionRef, call: outputs.DispatchTool) -> None:
        self.calls.append(("dispatch", call.call_id))

    def cancel(self, session: SessionRef, cancel: outputs.CancelTool) -> None:
        self.calls.append(("cancel", cancel.call_id))

    def check(self, session: SessionRef, check: outputs.DispatchCheck, *, timeout_ms: int) -> None:
        self.calls.append(("check", check.check_id, timeout_ms))

    async def open(self, session: str, *, state: Mapping[str, str]) -> int:
        return 1

    def append(self, session: SessionRef, record: outputs.Record, at_ms: int) -> None:
        self.calls.append(("append", record.seq, record.type.value))

    def update(self, session: SessionRef, state: Mapping[str, str]) -> None:
        self.states.append(dict(state))

    def after(self, session: SessionRef, then: Callable[[], None]) -> None:
        self.unwritten.append(then)

    def written(self) -> None:
        """The journal has everything so far."""
        for then in self.unwritten:
            then()
        self.unwritten.clear()

    async def close(self, session: SessionRef) -> None:
        self.closed += 1

    def subscribe(self, session: str, deliver: Deliver) -> None:
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
        self.carries_on: outputs.ForwardAudio | None = None
        self.says_on: Sequence[outputs.Output] | None = None
        self.said: list[str] = []
        self.rules = dict(rules or {})
        self._start = start
        self.state = State.LIVE
        self.waiting = {"c"}
        self.agent = AgentSpec("helper")
        self.history: list[dict[str, Any]] = []
        self.rules.setdefault(inputs.End, lambda end: [outputs.Close(end.reason)])

    def start(self) -> Sequence[outputs.Output]:
        return self._start

    def carry_on(
        self, response_id: str, item_id: str, content_index: int, size: int, now: float
    ) -> outputs.ForwardAudio | None:
        return self.carries_on

    def say_on(
        self, kind: str, response_id: str, item_id: str, content_index: int, delta: str, now: float
    ) -> Sequence[outputs.Output] | None:
        self.said.append(delta)
        return self.says_on

    def handle(self, event: inputs.Input, now: float) -> Sequence[outputs.Output]:
        self.given.append(event)
        rule = self.rules.get(type(event))
        return rule(event) if rule is not None else []

    @property
    def formats(self) -> dict[str, dict[str, Any]]:
        return {"input": {"type": "audio/pcm"}, "output": {"type": "audio/pcm"}}

    def at_rest(self, now: float) -> bool:
        return True

    def awaits_decision(self, call_id: str) -> bool:
        return call_id in self.waiting


@dataclass
class Author:
    """Answers as it is told; an exception is raised."""

    resolves: Callable[[outputs.ResolveAgent], Any] = lambda ask: AgentSpec(ask.to_agent)
    vets: Callable[[outputs.VetCall], Any] = lambda ask: inputs.CallVetted(ask.call_id, "run")
    agents: Callable[[str], Any] = AgentSpec
    words: Callable[[outputs.WordToolError], Any] = lambda ask: f"in other words: {ask.message}"
    merged: list[outputs.MergeContext] = field(default_factory=list)
    refuses: list[tuple[str, str]] = field(default_factory=list)
    context: str | None = None

    async def resolve(self, ask: outputs.ResolveAgent) -> AgentSpec:
        return answer(self.resolves(ask), AgentSpec)

    async def take_over(self, name: str) -> AgentSpec:
        return answer(self.agents(name), AgentSpec)

    async def vet(self, ask: outputs.VetCall) -> inputs.CallVetted:
        return answer(self.vets(ask), inputs.CallVetted)

    def merge_context(self, merge: outputs.MergeContext) -> list[tuple[str, str]]:
        self.merged.append(merge)
        return self.refuses

    def unsaved_context(self) -> str | None:
        text, self.context = self.context, None
        return text

    async def word_error(self, ask: outputs.WordToolError) -> str:
        return answer(self.words(ask), str)


T = TypeVar("T")


def answer(given: Any, kind: type[T]) -> T:
    if isinstance(given, Exception):
        raise given
    assert isinstance(given, kind)
    return given


class Running:
    """A driver with its world, run as a task."""

    def __init__(
        self,
        engine: Engine,
        connector: Connector | None = None,
        *,
        tap: ModelTap | None = None,
        inline_tools: bool = False,
        author: Author | None = None,
        **more: Any,
    ) -> None:
        self.world, self.client, self.engine = World(), Client(), engine
        self.connector = connector or Connector()
        config = SessionConfig("S", Face.NATIVE, AgentSpec("a"), "m", inline_tools=inline_tools)

        bus = Bus(Clock(), self.world, self.world, self.world, self.world)
        self.driver = SessionDriver(engine, config, REF, bus, self.client, author=author or Author(**more), tap=tap)
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


async def test_an_input_that_was_brought_is_not_kept() -> None:
    class Event(dict[str, Any]):
        """May be pointed at weakly."""

    running = await Running(Engine()).live()
    event = Event(type="large")
    gone = weakref.ref(event)
    running.driver.feed(inputs.ClientEvent(event))
    del event
    running.engine.given.clear()
    assert gone() is None
    await running.over()


async def test_audio_is_forwarded_only_where_the_engine_lets_it_pass() -> None:
    def judge(audio: inputs.ModelAudio) -> Sequence[outputs.Output]:
        where = outputs.ForwardAudio(audio.response_id, audio.item_id, 0, 0)
        return [where] if audio.size == 2 else []

    running = await Running(Engine({inputs.ModelAudio: judge})).live()
    running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
    running.driver.model_frame(AUDIO + b'"delta":"AAAA"}')
    assert running.engine.given == [inputs.ModelAudio("r", "i", 0, 0, size, bytes(size)) for size in (2, 3)]
    assert running.client.heard[1:] == [("audio", b"\0\0")]
    await running.over()


async def test_audio_that_carries_on_passes_the_engines_queue_by_until_the_session_ends() -> None:
    running = await Running(Engine()).live()
    running.engine.carries_on = outputs.ForwardAudio("r", "i", 0, 0)
    running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
    assert running.engine.given == []
    assert running.client.heard[1:] == [("audio", b"\0\0")]
    await running.over()
    running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
    assert [heard[0] for heard in running.client.heard].count("audio") == 1


async def test_text_that_says_more_passes_the_engines_queue_by_and_anything_else_does_not() -> None:
    running = await Running(Engine()).live()
    running.engine.says_on = [outputs.ToClient({"type": "more"})]
    running.driver.model_frame(TEXT + b'"delta":"a"}')
    assert running.engine.given == []
    assert running.client.heard[1:] == [("event", "more")]
    running.driver.model_frame(TEXT + b'"delta":"b","logprobs":[]}')
    assert running.engine.said == ["a"]
    running.engine.says_on = None
    running.driver.model_frame(TEXT + b'"delta":"c"}')
    assert running.engine.said == ["a", "c"]
    assert [event.event["delta"] for event in running.engine.given] == ["b", "c"]
    await running.over()


async def test_what_text_brings_about_is_taken_after_it() -> None:
    running = await Running(Engine()).live()
    running.engine.says_on = [outputs.ToClient({"type": "more"}), outputs.ToClient({"type": "last"})]
    running.client.on_event = lambda: running.driver.feed(inputs.LinkOpened())
    running.driver.model_frame(TEXT + b'"delta":"a"}')
    assert running.client.heard[1:] == [("event", "more"), ("event", "last")]
    assert running.engine.given == [inputs.LinkOpened(), inputs.LinkOpened()]
    running.client.on_event = lambda: 1 / 0  # type: ignore[assignment]
    running.driver.model_frame(TEXT + b'"delta":"b"}')
    assert await running.over() == "error"


async def test_audio_that_comes_while_something_is_carried_out_keeps_its_place() -> None:
    def answer_late(_: inputs.ModelEvent) -> Sequence[outputs.Output]:
        running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
        return [outputs.ToClient({"type": "first"})]

    running = await Running(Engine({inputs.ModelEvent: answer_late})).live()
    running.engine.carries_on = outputs.ForwardAudio("r", "i", 0, 0)
    running.driver.model_frame(b'{"type":"x"}')
    assert [type(event) for event in running.engine.given] == [inputs.ModelEvent, inputs.ModelAudio]
    assert ("event", "first") in running.client.heard
    await running.over()


async def test_a_client_that_cannot_take_audio_ends_its_session_alone() -> None:
    running = await Running(Engine()).live()
    running.engine.carries_on = outputs.ForwardAudio("r", "i", 0, 0)
    running.client.audio = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
    running.driver.model_frame(AUDIO + b'"delta":"AAA="}')
    assert await running.over() == "error"
    assert running.client.heard[-1] == ("close", 1011, "error")


@pytest.mark.parametrize(
    "frame",
    [
        b"{", b"[]", b'{"no":"type"}', b'{"type":1}', b"\xff", AUDIO + b'"delta":"A\\"B"}', AUDIO + b'"x":1}',
        b'{"type":"response.done"}', b'{"type":"response.done","response":null}',
    ],
)  # fmt: skip
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

    error = ModelLinkError("the model at 10.0.0.7:443 refused", code="invalid_api_key", fatal=True, retry_after=4.0)
    engine = Engine({inputs.LinkLost: lost})
    engine.state = State.CONFIGURING
    running = Running(engine, Connector(error=error))
    assert await running.task == "model_lost"
    (given,) = running.engine.given
    assert isinstance(given, inputs.LinkLost)
    assert given.why == "The model's server refused the API key."
    assert (given.code, given.fatal) == ("invalid_api_key", True)
    assert 0 <= given.jitter <= 1
    assert given.retry_after == 4.0
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


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (AgentSpec("b"), inputs.AgentResolved("c1", AgentSpec("b"))),
        (UserError("two tools"), inputs.AgentUnresolved("c1", "two tools")),
        (BusError("Redis at 10.0.0.8"), inputs.AgentUnresolved("c1", "The handoff to b failed: BusError.")),
        (
            KeyError("x"),
            inputs.AgentUnresolved(
                "c1", "The handoff to b failed: KeyError.", "The handoff to b failed: KeyError: 'x'"
            ),
        ),
        (
            MuteError(),
            inputs.AgentUnresolved(
                "c1",
                "The handoff to b failed: MuteError.",
                "The handoff to b failed: MuteError: it does not say of what",
            ),
        ),
    ],
)
async def test_an_agent_is_resolved_beside_the_session(outcome: Any, expected: inputs.Input) -> None:
    engine = Engine({inputs.Interrupt: lambda _: [ASK]})
    running = await Running(engine, resolves=lambda _: outcome).live()
    running.driver.feed(inputs.Interrupt())
    await wait_until(lambda: len(engine.given) > 1, description="the answer")
    assert engine.given[1] == expected
    await running.over()


VET = outputs.VetCall("c1", "t", "{}", "a", 1, approved=False)
WORD = outputs.WordToolError("c1", "t", "tool_exception", "It failed.")


@pytest.mark.parametrize(
    ("ask", "author", "expected"),
    [
        (VET, {}, inputs.CallVetted("c1", "run")),
        (VET, {"vets": lambda _: KeyError("x")}, inputs.CallVetted("c1", "reject", UNCHECKED, "guardrail")),
        (WORD, {}, inputs.ToolErrorWorded("c1", "in other words: It failed.")),
        (WORD, {"words": lambda _: KeyError("x")}, inputs.ToolErrorWorded("c1", "It failed.")),
    ],
)
async def test_the_author_is_asked_beside_the_session_and_always_answers(
    ask: outputs.Output, author: dict[str, Any], expected: inputs.Input
) -> None:
    engine = Engine({inputs.Interrupt: lambda _: [ask]})
    running = await Running(engine, **author).live()
    running.driver.feed(inputs.Interrupt())
    await wait_until(lambda: len(engine.given) > 1, description="the answer")
    assert engine.given[1] == expected
    await running.over()


@pytest.mark.parametrize("ask", [ASK, VET, WORD])
async def test_an_author_who_takes_for_ever_is_answered_for(
    ask: outputs.Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Author):
        async def resolve(self, _: Any) -> AgentSpec:
            await asyncio.Event().wait()
            raise AssertionError

        async def vet(self, _: Any) -> inputs.CallVetted:
            await asyncio.Event().wait()
            raise AssertionError

        async def word_error(self, _: Any) -> str:
            await asyncio.Event().wait()
            raise AssertionError

    for limit in ("RESOLVE_TIMEOUT_S", "VET_TIMEOUT_S", "WORD_TIMEOUT_S"):
        monkeypatch.setattr(asking, limit, 0.01)
    answered = {outputs.ResolveAgent: asking.resolve, outputs.VetCall: asking.vet}.get(type(ask), asking.word_error)
    given = await answered(Stuck(), ask)  # type: ignore[operator]
    assert given in (
        inputs.AgentUnresolved("c1", "The handoff to b took longer than 0.01 seconds."),
        inputs.CallVetted("c1", "reject", UNCHECKED, "guardrail"),
        inputs.ToolErrorWorded("c1", "It failed."),
    )


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


STREAM = DecidedBy(via="stream")
OPS = DecidedBy(via="http", tenant="acme", key_id="ops")


def command(name: str, id: str = "1", **arguments: Any) -> Entry:  # noqa: A002 - the wire's name
    return entry("session.command", {"command_id": id, "command": name, **arguments})


async def test_commands_of_other_processes_are_carried_out_once() -> None:
    running = await Running(Engine({inputs.End: lambda _: []})).live()
    deliver = running.world.deliver
    assert deliver is not None
    for told in (
        command("commit", "7"),
        command("playback", "8", item_id="i", played_ms=20),
        command("approve", "1", call_id="c", always=True),
        command("reject", "2", call_id="c", message="No.", by=OPS.model_dump()),
        command("interrupt", "3"),
        command("send_message", "4", text="hello"),
        command("send_message", "5", content=[{"type": "input_text", "text": "hi"}]),
        command("end", "6"),
        command("interrupt", "3"),
    ):
        deliver(told)
    assert running.engine.given == [
        inputs.CommitAudio(), inputs.Playback("i", 0, 20),
        inputs.Approve("c", always=True, by=STREAM), inputs.Reject("c", message="No.", by=OPS), inputs.Interrupt(),
        inputs.SendMessage([{"type": "input_text", "text": "hello"}]),
        inputs.SendMessage([{"type": "input_text", "text": "hi"}]), inputs.End("ended"),
    ]  # fmt: skip
    running.task.cancel()
    await asyncio.wait({running.task})


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (AgentSpec("b"), None),
        (CommandRefusedError("unknown_agent", "no"), "unknown_agent"),
        (UserError("two tools"), "agent_failed"),
        (KeyError("x"), "agent_failed"),
    ],
)
async def test_an_agent_takes_over_on_another_processs_word_and_whoever_asked_is_told(
    outcome: Any, code: str | None
) -> None:
    running = await Running(Engine(), agents=lambda _: outcome).live()
    deliver = running.world.deliver
    assert deliver is not None
    later = deliver(command("update_agent", agent="b"))
    assert later is not None
    await asyncio.wait({later})
    refused = later.exception()
    assert (refused.code if isinstance(refused, CommandRefusedError) else refused) == code
    assert running.engine.given == ([] if code else [inputs.UpdateAgent(AgentSpec("b"))])
    assert running.world.states == ([] if code else [{"agent": "b"}])
    await running.over()


@pytest.mark.parametrize("moment", ["asking", "before its first step", "over"])
async def test_whoever_asked_is_told_where_the_session_ends_before_the_agent_took_over(moment: str) -> None:
    class Stuck(Author):
        async def take_over(self, name: str) -> AgentSpec:
            await asyncio.Event().wait()
            raise AssertionError

    running = Running(Engine(), author=Stuck())
    await running.live()
    if moment == "over":
        await running.over()
    later = running.driver.take_over("b")
    if moment == "asking":
        await asyncio.sleep(0)
    elif moment == "before its first step":
        (task,) = (task for task in asyncio.all_tasks() if task.get_name().startswith("take-over"))
        task.cancel()
    if moment != "over":
        await running.over()
    refused = later.exception()
    assert isinstance(refused, CommandRefusedError)
    assert refused.code == "session_ended"


async def test_a_command_before_the_session_is_connected_is_refused_and_not_lost_in_silence() -> None:
    running = Running(Engine(), Connector(gate=asyncio.Event()))
    deliver = await wait_until(lambda: running.world.deliver, description="the dialling")
    assert deliver is not None
    with pytest.raises(CommandRefusedError) as refused:
        deliver(command("interrupt"))
    assert refused.value.code == "not_ready"
    running.task.cancel()
    await asyncio.wait({running.task})


async def test_a_word_about_a_call_that_waits_for_none_is_refused_and_not_heard() -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    for word in (command("approve", "1", call_id="other"), command("reject", "2", call_id="other")):
        with pytest.raises(CommandRefusedError, match="no call 'other' waits for approval") as refused:
            deliver(word)
        assert refused.value.code == "unknown_call"
    assert running.engine.given == []
    await running.over()


async def test_a_refused_word_counts_anew_when_it_comes_again() -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    word = command("approve", "1", call_id="later")
    for _ in range(2):
        with pytest.raises(CommandRefusedError):
            deliver(word)
    running.engine.waiting.add("later")
    deliver(word)
    assert running.engine.given == [inputs.Approve("later", by=STREAM)]
    await running.over()


async def test_an_agent_that_could_not_take_over_is_tried_anew_when_the_word_comes_again() -> None:
    outcomes: list[Any] = [KeyError("x"), AgentSpec("b")]
    running = await Running(Engine(), agents=lambda _: outcomes.pop(0)).live()
    deliver = running.world.deliver
    assert deliver is not None
    word = command("update_agent", "1", agent="b")
    for expected in ("agent_failed", None):
        later = deliver(word)
        assert later is not None
        await asyncio.wait({later})
        await asyncio.sleep(0)
        refused = later.exception()
        assert (refused.code if isinstance(refused, CommandRefusedError) else refused) == expected
    assert running.engine.given == [inputs.UpdateAgent(AgentSpec("b"))]
    deliver(word)
    assert running.engine.given == [inputs.UpdateAgent(AgentSpec("b"))], "it has been carried out"
    await running.over()


async def test_who_asks_is_told_that_a_command_was_carried_out_once_that_is_written() -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    for word in (command("send_message", "1", text="hello"), command("commit", "2"), command("commit", "2")):
        told = deliver(word)
        assert told is not None
        assert not told.done()
        running.world.written()
        assert told.done()
    assert len(running.engine.given) == 2
    await running.over()


async def test_a_command_that_comes_after_its_deadline_is_refused() -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    with pytest.raises(CommandRefusedError) as refused:
        deliver(replace(command("interrupt"), deadline=Clock().at_ms() - 1))
    assert refused.value.code == "expired"
    deliver(replace(command("interrupt"), deadline=Clock().at_ms() + 1))
    assert running.engine.given == [inputs.Interrupt()]
    await running.over()


@pytest.mark.parametrize(
    "wrong",
    [
        command("mute", muted=True), command("approve"), command("approve", call_id=""), command("reject", call_id=1),
        command("send_message"), command("send_message", text="a", content=[]), command("end", reason="a b"),
        command("update_agent"), command("playback", item_id="i", played_ms=float("nan")),
    ],
)  # fmt: skip
async def test_a_command_that_cannot_be_obeyed_is_refused(wrong: Entry) -> None:
    running = await Running(Engine()).live()
    deliver = running.world.deliver
    assert deliver is not None
    with pytest.raises(ContractError):
        deliver(wrong)
    assert running.engine.given == []
    await running.over()


EVENT = b'{"type":"x"}'


def result(call_id: str) -> inputs.ToolResultArrived:
    return inputs.ToolResultArrived(
        ToolResult(call_id=call_id, outcome=Outcome.OK, output="", worker="w", duration_ms=0)
    )


async def test_nothing_is_read_of_the_model_while_an_inline_call_runs() -> None:
    call = outputs.DispatchTool("c1", "t", "{}", "a", "q", 1000, False)
    engine = Engine({inputs.Interrupt: lambda _: [call], inputs.AgentUnresolved: lambda _: [call]})
    running = await Running(engine, inline_tools=True).live()
    running.driver.feed(inputs.Interrupt())
    running.driver.model_frame(EVENT)
    running.driver.model_frame(b"{")
    assert engine.given == [inputs.Interrupt()]
    running.driver.feed(result("another"))
    assert len(engine.given) == 2
    running.driver.feed(result("c1"))
    assert [type(event) for event in engine.given[2:]] == [
        inputs.ToolResultArrived, inputs.ModelEvent, inputs.ModelMalformed,
    ]  # fmt: skip
    running.driver.feed(inputs.Interrupt())
    running.driver.model_frame(EVENT)
    running.driver.model_lost("gone", 1006)
    event, lost = engine.given[-2:]
    assert event == inputs.ModelEvent({"type": "x"})
    assert isinstance(lost, inputs.LinkLost)
    assert (lost.why, lost.close_code) == ("gone", 1006)
    await running.over()


async def test_an_inline_call_is_waited_for_from_its_vetting_to_its_cancelling() -> None:
    call = outputs.DispatchTool("c1", "t", "{}", "a", "q", 1000, False)
    engine = Engine({
        inputs.Interrupt: lambda _: [VET], inputs.CallVetted: lambda _: [call],
        inputs.CommitAudio: lambda _: [outputs.CancelTool("c1", "q", None, "timeout")],
    })  # fmt: skip
    running = await Running(engine, inline_tools=True).live()
    running.driver.feed(inputs.Interrupt())
    running.driver.model_frame(EVENT)
    await wait_until(lambda: ("dispatch", "c1") in running.world.calls, description="the dispatch")
    assert inputs.ModelEvent({"type": "x"}) not in engine.given
    running.driver.feed(inputs.CommitAudio())
    assert engine.given[-1] == inputs.ModelEvent({"type": "x"})
    await running.over()


@pytest.mark.parametrize(("bound", "most"), [("_MAX_WAITING", 3), ("_MAX_WAITING_BYTES", 3 * len(b'{"type":"0"}'))])
async def test_frames_that_wait_for_a_call_are_bounded(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    monkeypatch.setattr(f"voicebus.runtime.inline.{bound}", most)
    call = outputs.DispatchTool("c1", "t", "{}", "a", "q", 1000, False)
    engine = Engine({inputs.Interrupt: lambda _: [call]})
    running = await Running(engine, inline_tools=True).live()
    running.driver.feed(inputs.Interrupt())
    for number in range(4):
        assert len(engine.given) == 1
        running.driver.model_frame(b'{"type":"%d"}' % number)
    assert engine.given[1:] == [inputs.ModelEvent({"type": str(number)}) for number in range(4)]
    await running.over()


@dataclass
class Tap:
    heard_of: list[Any] = field(default_factory=list)
    shows_text: bool = True

    def heard(self, item: inputs.Input, delta: AudioDelta | None, size: int) -> None:
        self.heard_of.append((type(item), None if delta is None else delta.samples, size))

    def sounded(self, where: outputs.ForwardAudio, delta: AudioDelta, size: int, seq: int) -> bool:
        return False

    def said(self, delta: TextDelta, text: str, size: int, seq: int) -> bool:
        self.heard_of.append(("said", delta.delta, text, seq))
        return self.shows_text

    def settled(self) -> None:
        self.heard_of.append("settled")


async def test_a_tap_hears_each_input_before_the_engine_and_when_its_outputs_are_performed() -> None:
    tap = Tap()
    running = await Running(Engine(), tap=tap).live()
    running.driver.model_frame(EVENT)
    frame = AUDIO + b'"delta":"AAA="}'
    running.driver.model_frame(frame)
    running.driver.feed(inputs.ModelAudio("r", "i", 0, 0, 1), AudioDelta("t", "r", "i", "", samples=b"\1"))
    assert tap.heard_of == [
        "settled", (inputs.ModelEvent, None, len(EVENT)),
        "settled", (inputs.ModelAudio, b"\0\0", len(frame)),
        "settled", (inputs.ModelAudio, b"\1", 1), "settled",
    ]  # fmt: skip
    await running.over()


async def test_a_tap_is_told_of_text_that_says_more_by_one_call_or_hears_it_as_a_whole_event() -> None:
    tap = Tap()
    running = await Running(Engine(), tap=tap).live()
    tap.heard_of.clear()
    running.engine.says_on = [outputs.Emit("transcript_delta", {"text": "a"}), outputs.ToClient({"type": "more"})]
    frame = TEXT + b'"event_id":"e","delta":"a"}'
    running.driver.model_frame(frame)
    assert tap.heard_of == [("said", "a", "a", 0), "settled"]
    assert running.client.heard[1:] == [("event", "more")]
    tap.heard_of.clear()
    tap.shows_text = False
    running.driver.model_frame(frame)
    assert tap.heard_of == [("said", "a", "a", 0), (inputs.ModelEvent, None, len(frame) + 6 * 128), "settled"]
    assert running.client.heard[2:] == [("emit", "transcript_delta", 0), ("event", "more")]
    assert running.engine.given == []
    await running.over()


async def test_text_without_an_id_of_its_event_is_heard_as_it_came() -> None:
    tap = Tap()
    running = await Running(Engine(), tap=tap).live()
    running.engine.says_on = []
    running.driver.model_frame(TEXT + b'"delta":"a"}')
    assert running.engine.said == []
    assert [event.event["delta"] for event in running.engine.given] == ["a"]
    await running.over()


async def test_what_is_held_is_told_to_nobody_and_brought_again_with_its_samples() -> None:
    heard: list[bool] = []

    def audio(_: inputs.Input) -> list[outputs.Output]:
        heard.append(True)
        return [outputs.HoldInput()] if len(heard) < 3 else [outputs.ForwardAudio("r", "i", 0, 0)]

    engine = Engine({inputs.ModelAudio: audio, inputs.Interrupt: lambda _: [outputs.ReturnInputs(2)]})
    tap = Tap()
    running = await Running(engine, tap=tap).live()
    for samples in (b'"delta":"AAA="}', b'"delta":"AQI="}'):
        running.driver.model_frame(AUDIO + samples)
    assert [told for told in tap.heard_of if told != "settled"] == []
    running.driver.feed(inputs.Interrupt())
    told = [told for told in tap.heard_of if told != "settled"]
    assert [one[:2] for one in told if one[0] is inputs.ModelAudio] == [
        (inputs.ModelAudio, b"\0\0"),
        (inputs.ModelAudio, b"\1\2"),
    ]
    assert len([one for one in running.client.heard if one[0] == "audio"]) == 2
    await running.over()


async def test_who_reads_along_is_told_what_is_left_of_what_is_concealed() -> None:
    conceals = iter([outputs.ConcealInput(None), outputs.ConcealInput({"type": "rest"})])
    tap = Tap()
    running = await Running(Engine({inputs.ModelEvent: lambda _: [next(conceals)]}), tap=tap).live()
    running.driver.model_frame(EVENT)
    assert [told for told in tap.heard_of if told != "settled"] == []
    running.driver.model_frame(EVENT)
    assert [told[0] for told in tap.heard_of if told != "settled"] == [inputs.ModelEvent]
    await running.over()


async def test_only_the_models_inputs_can_be_held() -> None:
    running = Running(Engine(start=[outputs.HoldInput()]))
    assert await running.task == "error"


async def test_a_check_may_bring_its_own_limit() -> None:
    check = outputs.DispatchCheck("k", "", "i", "a", ("g",), "text", True, stage="input", timeout_ms=70)
    running = await Running(Engine({inputs.Interrupt: lambda _: [check]})).live()
    running.driver.feed(inputs.Interrupt())
    assert ("check", "k", 70) in running.world.calls
    await running.over()


async def test_only_a_link_that_can_be_stopped_is_told_to() -> None:
    class Stoppable(Link):
        def stop(self, stop: outputs.StopModel) -> None:
            self.sent.append(stop)

    engine = Engine({inputs.Interrupt: lambda _: [outputs.StopModel("r")]})
    for link, told in ((Link(), []), (Stoppable(), [outputs.StopModel("r")])):
        running = await Running(engine, Connector(link)).live()
        running.driver.feed(inputs.Interrupt())
        assert link.sent == told
        await running.over()


async def test_a_session_can_be_dialled_before_it_is_run() -> None:
    other = Running(Engine(), Connector(before_it_returns=(EVENT,)))
    other.task.cancel()
    await asyncio.wait({other.task})
    await other.driver.dial(other.connector)
    assert other.engine.given == []
    task = asyncio.create_task(other.driver.run())
    await wait_until(lambda: other.driver.live, description="the start")
    assert other.engine.given == [inputs.ModelEvent({"type": "x"})]
    other.driver.feed(inputs.End("ended"))
    assert await task == "ended"


async def test_what_takes_too_long_to_close_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus.runtime.jobs.CLEAN_UP_S", 0.01)

    class Stuck(Link):
        async def close(self) -> None:
            await asyncio.Event().wait()

    running = await Running(Engine(), Connector(Stuck())).live()
    assert await running.over() == "ended"


async def test_a_job_that_fails_ends_the_session() -> None:
    running = await Running(Engine()).live()

    async def fail() -> None:
        raise RuntimeError(json.dumps({}))

    running.driver.job("fails", fail())
    assert await running.task == "error"


async def test_a_tools_changes_to_the_context_are_made_and_saved_and_a_refusal_is_told() -> None:
    merge = outputs.MergeContext("book", {"nights": {"before": 1, "after": 2}})
    author = Author(refuses=[("context_conflict", "No.")], context='{"nights":2}')
    running = await Running(Engine({inputs.AudioInterrupted: lambda _: [merge]}), author=author).live()
    running.driver.feed(inputs.AudioInterrupted("i", 0))
    assert author.merged == [merge]
    assert running.world.states == [{"context": '{"nights":2}'}]
    assert running.engine.given[-1] == inputs.Trouble("context_conflict", "No.", "tool")
    await running.over()


async def test_what_a_callback_changes_in_the_context_is_saved() -> None:
    author = Author(context='{"vetted":true}')
    running = await Running(Engine(start=[vetting()]), author=author).live()
    await wait_until(lambda: running.world.states, description="the context in the session's state")
    assert running.world.states == [{"context": '{"vetted":true}'}]
    await running.over()


def vetting() -> outputs.VetCall:
    return outputs.VetCall("c1", "book", "{}", "a", 1, approved=False)
