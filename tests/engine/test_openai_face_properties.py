"""A session and its client view against the simulated model, with every delay in between drawn at random.

What a client of the OpenAI face is promised (contract section 4) has to hold whatever crosses on the wire: cancels and
the ends of responses, speech and follow-ups, inserts and outputs, handoffs and late results, settings that one agent
lets a client make and the next does not.
"""

import base64
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.model_simulator.bench import silence, speech
from support.talk import said_on
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, ClientRights, Face, HandoffSpec, SessionConfig, ToolSpec
from voicebus.engine.inputs import AgentResolved, ClientEvent, Input, ModelEvent, ToolResultArrived
from voicebus.engine.outputs import Close, DispatchTool, ResolveAgent, SendModel, ToClient
from voicebus.engine.session import Session
from voicebus_services.model_simulator.brains import Call, Output, Say
from voicebus_services.model_simulator.protocol.ids import Ids
from voicebus_services.model_simulator.protocol.input_buffer import EnergyDetector
from voicebus_services.model_simulator.protocol.responder import Think
from voicebus_services.model_simulator.protocol.responses import ResponseRun
from voicebus_services.model_simulator.protocol.session import SimulatedSession

LOOKUP: Final = ToolSpec("hidden_lookup", "", {"type": "object"}, "default", 1000)
TEXT: Final = {
    "output_modalities": ["text"],
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}},
}
OTHER: Final = AgentSpec("other", instructions="hidden words", tools=(LOOKUP,), session=TEXT)
FIRST: Final = AgentSpec(
    "first",
    instructions="hidden instructions",
    tools=(LOOKUP,),
    handoffs=(HandoffSpec("hidden_transfer", "", {"type": "object"}, "other"),),
    session=TEXT,
    client=ClientRights(ClientRights().may_set | {"instructions"}),
)
WORDS: Final = "the client's words"
MANY: Final = {f"key {number}": "x" for number in range(16)}
ANSWERS: Final[list[Output]] = [
    Say("well then"),
    Call("hidden_lookup", "{}"),
    Call("hidden_transfer", "{}"),
    Call("open_map", "{}"),
    Call("x", "{}"),
]
OUTPUTS: Final = st.lists(st.sampled_from(ANSWERS), max_size=3)
USER: Final = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
UTTERANCE: Final = base64.b64encode(speech(300) + silence(600)).decode()
# What may be answered to a client that acts on what it has not been told yet.
RACES: Final = {
    "response_cancel_not_active",
    "conversation_already_has_active_response",
    "item_delete_invalid_item_id",
    "item_retrieve_invalid_item_id",
    "item_create_invalid_previous_item_id",
}
# What is answered to a client that asks for what it may not have, or does not know.
REFUSED: Final = {"forbidden_parameter", "invalid_tool_call_id"}


class Wire:
    """Session and model with a line between them that holds frames back as long as it likes."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.now = 1.0
        config = SessionConfig("s1", Face.OPENAI, FIRST, "gpt-realtime")
        self.session = Session(config, now=self.now, view=OpenAIClientView(config))
        self.model = SimulatedSession(ids=Ids(1, 0), clock=lambda: self.now, detector=EnergyDetector)
        self.to_model: deque[Mapping[str, Any]] = deque()
        self.to_session: deque[Mapping[str, Any]] = deque()
        self.calls: list[DispatchTool | ResolveAgent] = []
        self.seen: list[Mapping[str, Any]] = []
        self.answering: tuple[ResponseRun, deque[Output]] | None = None
        self.closed = False
        self.is_draining = False
        self.model.greet()
        self.take_events()
        self.perform(self.session.start())
        self.drain()
        self.client("session.update", session={"type": "realtime", "tools": [{"type": "function", "name": "open_map"}]})
        self.drain()

    def drain(self) -> None:
        """Let everything arrive; what the model is still asked, it answers with words."""
        self.is_draining = True
        while self.to_session or self.to_model or self.calls or self.model.work or self.answering:
            for step in (self.up, self.down, self.answer, self.result):
                step()
        self.is_draining = False

    # --- the line ---

    def up(self) -> None:
        """One frame reaches the model."""
        if self.to_model:
            self.model.handle(json.dumps(self.to_model.popleft()))
            self.take_events()

    def down(self) -> None:
        """One frame reaches the session."""
        if self.to_session:
            self.feed(ModelEvent(self.to_session.popleft()))

    def take_events(self) -> None:
        self.to_session += json.loads(json.dumps(self.model.events))
        self.model.events.clear()

    def feed(self, item: Input) -> None:
        self.now += 0.001
        made = said_on(self.session, item, self.now)
        self.perform(self.session.handle(item, self.now) if made is None else made)

    def perform(self, outputs: Any) -> None:
        for output in outputs:
            match output:
                case SendModel(event):
                    self.to_model.append(event)
                case ToClient(event):
                    self.seen.append(event)
                case DispatchTool() | ResolveAgent():
                    self.calls.append(output)
                case Close():
                    self.closed = True

    # --- model and workers ---

    def answer(self) -> None:
        """The model thinks of its next response, or goes on with the one that it gives."""
        if self.answering is None or not self.answering[0].active:
            self.answering = None
            self.model.work[:] = [work for work in self.model.work if isinstance(work, Think) and work.run.active]
            if not self.model.work:
                return
            work = self.model.work.pop(0)
            assert isinstance(work, Think)
            self.model.responder.announce(work.run)
            self.answering = work.run, deque([ANSWERS[0]] if self.is_draining else self.draw(OUTPUTS))
        else:
            run, outputs = self.answering
            if run.step() is None:
                if outputs:
                    run.begin(outputs.popleft(), None)
                else:
                    self.model.responder.complete(run)
                    self.answering = None
        self.take_events()

    def result(self) -> None:
        """A worker is done."""
        if not self.calls:
            return
        match self.calls.pop(0 if self.is_draining else self.draw(st.integers(0, len(self.calls) - 1))):
            case DispatchTool(call_id=call_id):
                result = ToolResult(
                    call_id=call_id, outcome=Outcome.OK, output="hidden result", worker="w", duration_ms=1
                )
                self.feed(ToolResultArrived(result))
            case ResolveAgent(call_id=call_id):
                self.feed(AgentResolved(call_id, OTHER))

    # --- the client ---

    def client(self, kind: str, **fields: Any) -> None:
        self.feed(ClientEvent({"type": kind, **fields}))

    def says(self) -> None:
        self.client("conversation.item.create", item=USER)

    def asks(self) -> None:
        self.client("response.create", response={"metadata": {"from": "client"}})

    def asks_aside(self) -> None:
        self.client("response.create", response={"conversation": "none", "metadata": {"aside": "yes"}})

    def cancels(self) -> None:
        self.client("response.cancel")

    def inserts(self) -> None:
        if known := mirror(self.seen):
            self.client("conversation.item.create", item=USER, previous_item_id=self.draw(st.sampled_from(known)))

    def deletes(self) -> None:
        if known := mirror(self.seen):
            self.client("conversation.item.delete", item_id=self.draw(st.sampled_from(known)))

    def retrieves(self) -> None:
        if known := mirror(self.seen):
            self.client("conversation.item.retrieve", item_id=self.draw(st.sampled_from(known)))

    def guesses(self) -> None:
        """Names items that it cannot know of, and answers calls that are not its own."""
        visible = set(mirror(self.seen))
        hidden = [entry for entry in self.model.conversation if entry.id not in visible]
        sent = {event["item"]["id"] for event in self.to_session if event["type"] == "conversation.item.added"}
        for entry in hidden:
            if entry.id not in sent:
                self.client("conversation.item.retrieve", item_id=entry.id)
        for call in self.calls:
            self.gives(call.call_id)

    def answers(self) -> None:
        """Gives the output of one of its own calls."""
        if calls := self.seen_calls("open_map"):
            self.gives(self.draw(st.sampled_from(calls)))

    def seen_calls(self, name: str) -> list[str]:
        items = [event["item"] for event in self.seen if event["type"] == "response.output_item.done"]
        return [item["call_id"] for item in items if item["type"] == "function_call" and item["name"] == name]

    def gives(self, call_id: str) -> None:
        item = {"type": "function_call_output", "call_id": call_id, "output": "the map"}
        self.client("conversation.item.create", item=item)

    def asks_for_more(self) -> None:
        tools = [{"type": "function", "name": "open_map"}, {"type": "function", "name": "dial"}]
        self.client("response.create", response={"metadata": MANY, "tools": tools})

    def instructs(self) -> None:
        """Allowed with the first agent alone."""
        self.client("session.update", session={"type": "realtime", "instructions": WORDS})

    def speaks(self) -> None:
        self.to_model.append({"type": "input_audio_buffer.append", "audio": UTTERANCE})

    def changes(self) -> None:
        self.client("session.update", event_id="mine", session={"type": "realtime", "max_output_tokens": 100})


ACTIONS: Final = (
    [Wire.up, Wire.down] * 5
    + [Wire.answer] * 4
    + [Wire.result] * 2
    + [Wire.says, Wire.asks, Wire.asks, Wire.asks_aside, Wire.cancels, Wire.cancels]
    + [Wire.inserts, Wire.deletes, Wire.speaks, Wire.changes, Wire.retrieves, Wire.guesses]
    + [Wire.answers, Wire.asks_for_more, Wire.instructs]
)


def mirror(seen: list[Mapping[str, Any]]) -> list[str]:
    """The conversation that a client builds from what it sees."""
    items: list[str] = []
    for event in seen:
        if event["type"] == "conversation.item.added":
            previous = event["previous_item_id"]
            items.insert(0 if previous is None else items.index(previous) + 1, event["item"]["id"])
        elif event["type"] == "conversation.item.deleted":
            items.remove(event["item_id"])
    return items


@st.composite
def wires(draw: st.DrawFn) -> Wire:
    wire = Wire(draw)
    for action in draw(st.lists(st.sampled_from(ACTIONS), min_size=20, max_size=120)):
        action(wire)
    wire.drain()
    return wire


# The worlds run while they are drawn, which a busy machine makes slow.
@pytest.mark.timeout(240)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(wires())
def test_a_client_is_promised_the_same_whatever_crosses_on_the_wire(wire: Wire) -> None:
    assert not wire.closed
    text = json.dumps(wire.seen)
    for hidden in ("hidden", "voicebus", '"name": "x"', '"vb_'):
        assert hidden not in text, hidden
    items = [event["item"] for event in wire.seen if "item" in event]
    assert {item["output"] for item in items if item["type"] == "function_call_output"} <= {"the map"}
    assert {event["error"]["code"] for event in wire.seen if event["type"] == "error"} <= RACES | REFUSED
    check_settings(wire)
    check_outputs(wire)
    check_responses(wire.seen)
    visible = set(mirror(wire.seen))
    in_order = [entry.id for entry in wire.model.conversation if entry.id in visible]
    assert mirror(wire.seen) == in_order


def check_settings(wire: Wire) -> None:
    """The agent in charge is the one that the model follows, and what a client reads of it is its own."""
    told = wire.model.config["instructions"]
    shown = [event["session"] for event in wire.seen if event["type"] == "session.updated"]
    assert {session["instructions"] for session in shown} <= {"", WORDS}
    assert {tool["name"] for session in shown for tool in session["tools"]} <= {"open_map"}
    if wire.session.agent is OTHER:
        assert told == "hidden words"
    else:
        refused = [event for event in wire.seen if event["type"] == "error"]
        assert "forbidden_parameter" not in {event["error"]["code"] for event in refused}
        assert told in ("hidden instructions", WORDS)


def check_outputs(wire: Wire) -> None:
    """What a client answers are its own calls."""
    items = [entry.body for entry in wire.model.conversation]
    answered = {item["call_id"] for item in items if item.get("output") == "the map"}
    assert answered <= set(wire.seen_calls("open_map"))


def check_responses(seen: list[Mapping[str, Any]]) -> None:
    """One created and one done each, one at a time in the conversation, dense indexes, all items in the end."""
    open_items: dict[str, list[str]] = {}
    known: set[str] = set()
    active: str | None = None
    for event in seen:
        if event["type"] == "response.created":
            response = event["response"]
            assert response["id"] not in known
            known.add(response["id"])
            open_items[response["id"]] = []
            if response["conversation_id"] is not None:
                assert active is None, "two responses of the conversation at once"
                active = response["id"]
        elif event["type"] == "response.done":
            response = event["response"]
            assert [item["id"] for item in response["output"]] == open_items.pop(response["id"])
            assert response["metadata"] in (None, {"from": "client"}, {"aside": "yes"}, MANY)
            active = None if active == response["id"] else active
        elif "response_id" in event:
            items = open_items[event["response_id"]]
            if event["type"] == "response.output_item.added":
                items.append(event["item"]["id"])
            assert event["output_index"] == len(items) - 1
    assert not open_items, "a response never ended"
