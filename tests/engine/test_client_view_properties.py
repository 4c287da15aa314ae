"""Whatever the model, the tools and the client do in whatever order, the client's stream keeps its promises."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.model_events import USAGE, Event, ModelScript, call, message
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Face, SessionConfig, ToolSpec
from voicebus.engine.view import CancelResponse, CreateResponse, Forward, Reply

SERVER_TOOL = "hidden_tool"
KINDS = st.lists(st.sampled_from(["message", "server", "client"]), max_size=4)
STATUSES = st.sampled_from(["completed"] * 6 + ["cancelled", "failed", "incomplete"])


class World:
    """The model, the session and one client. Every id and name that must not show begins with `hidden`."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.model = ModelScript()
        agent = AgentSpec("helper", tools=(ToolSpec(SERVER_TOOL, "", {}, "default", 1000),))
        self.view = OpenAIClientView(SessionConfig("s1", Face.OPENAI, agent, "gpt-realtime"))
        declare = {"type": "realtime", "tools": [{"type": "function", "name": "client_tool"}]}
        self.view.client_event({"type": "session.update", "session": declare})
        self.seen: list[Mapping[str, Any]] = []
        self.turn: Iterator[Event] | None = None
        self.running: str | None = None
        self.resting: str | None = None
        self.aside: Iterator[Event] | None = None
        self.expected_usage: dict[str, int] = {}
        self._count = 0
        self._first = ""
        self._waits = False

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count}"

    # --- what can happen ---

    def begin_turn(self) -> None:
        """The session or the model starts a response: a turn, or the follow-up of a chain that rests."""
        if self.turn is not None:
            return
        if self.resting is None:
            self._first = response_id = self.new("resp")
            self.expected_usage[self._first] = 0
        else:
            response_id = self.new("hidden_resp")
        items, status = self.items(), self.draw(STATUSES)
        names = [item.get("name") for item in items]
        self._waits = status == "completed" and SERVER_TOOL in names and "client_tool" not in names
        # A follow-up carries the client's metadata again, and every response the session's own mark.
        metadata = {"turn": self._first, "voicebus": response_id}
        self.turn = self.model.responding(response_id, items, status=status, metadata=metadata)

    def go_on(self) -> None:
        if self.turn is None:
            return
        event = next(self.turn)
        if event["type"] == "response.created":
            self.running, self.resting = event["response"]["id"], None
            self.expected_usage[self._first] += USAGE["total_tokens"]
        if event["type"] != "response.done":
            self.show(event)
            return
        # The session may say that it goes on before or after the client is told.
        early = self.draw(st.booleans())
        if self._waits and early:
            self.view.follow_up_expected()
        self.show(event)
        if self._waits and not early:
            self.view.follow_up_expected()
        self.resting = self._first if self._waits else None
        self.turn = self.running = None

    def begin_aside(self) -> None:
        if self.aside is None:
            create = {"type": "response.create", "response": {"conversation": "none"}}
            assert isinstance(self.view.client_event(create)[0], CreateResponse)
            response_id = self.new("resp")
            self.expected_usage[response_id] = USAGE["total_tokens"]
            metadata = {"turn": response_id}
            self.aside = self.model.responding(response_id, self.items(), out_of_band=True, metadata=metadata)

    def go_on_aside(self) -> None:
        if self.aside is not None and (event := next(self.aside, None)) is not None:
            self.show(event)
        else:
            self.aside = None

    def end_chain(self) -> None:
        ended = self.view.chain_ended(status="cancelled", reason="turn_detected")
        assert [event["response"]["id"] for event in ended] == ([] if self.resting is None else [self.resting])
        self.seen += ended
        if self.resting is not None:
            # A follow-up that was asked for already is never shown.
            self.turn = self.resting = None

    def tool_output(self) -> None:
        item_id = self.new("hidden_item")
        self.view.hide_item(item_id)
        self.show(*self.model.output(item_id, self.new("hidden_call")))

    def client_inserts(self) -> None:
        visible = [item_id for item_id in self.model.order if not item_id.startswith("hidden")]
        after = self.draw(st.sampled_from([None, "root", *visible]))
        item_id = self.new("item")
        create = {"type": "conversation.item.create", "item": {"id": item_id, "type": "message"}}
        (intent,) = self.view.client_event(create if after is None else {**create, "previous_item_id": after})
        assert isinstance(intent, Forward)
        behind = intent.event.get("previous_item_id", "end")
        if behind in self.model.order:
            following = self.model.order[self.model.order.index(behind) + 1 :]
            assert not following or not following[0].startswith("hidden")
        self.show(*self.model.user(item_id, behind=None if behind == "root" else behind))

    def client_deletes(self) -> None:
        if not self.model.order:
            return
        item_id = self.draw(st.sampled_from(self.model.order))
        (intent,) = self.view.client_event({"type": "conversation.item.delete", "item_id": item_id})
        if item_id.startswith("hidden"):
            assert isinstance(intent, Reply)
            assert intent.event["error"]["code"] == "item_delete_invalid_item_id"
        else:
            assert isinstance(intent, Forward)
            self.model.order.remove(item_id)
            self.show({"type": "conversation.item.deleted", "item_id": item_id})

    def client_asks(self) -> None:
        (intent,) = self.view.client_event({"type": "response.create"})
        (cancel,) = self.view.client_event({"type": "response.cancel"})
        active = self.resting is not None or self.running is not None
        if not active:
            assert isinstance(intent, CreateResponse)
            assert isinstance(cancel, Reply)
        else:
            assert isinstance(intent, Reply)
            assert self._first in intent.event["error"]["message"]
            assert isinstance(cancel, CancelResponse)
            assert cancel.response_id in (None, self.running)
            self.seen.append(intent.event)

    # --- helpers ---

    def items(self) -> list[Event]:
        made = []
        for kind in self.draw(KINDS):
            if kind == "message":
                made.append(message(self.new("item")))
            elif kind == "server":
                made.append(call(self.new("hidden_item"), self.new("hidden_call"), SERVER_TOOL))
            else:
                made.append(call(self.new("item"), self.new("call"), "client_tool"))
        return made

    def show(self, *events: Event) -> None:
        for event in events:
            self.seen += self.view.model_event(event)

    def finish(self) -> None:
        while self.turn is not None:
            self.go_on()
        while self.aside is not None:
            self.go_on_aside()
        self.end_chain()


ACTIONS = (
    [World.go_on] * 6
    + [World.begin_turn, World.go_on_aside] * 3
    + [World.tool_output, World.client_inserts] * 2
    + [World.begin_aside, World.end_chain, World.client_deletes, World.client_asks]
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(draw)
    for action in draw(st.lists(st.sampled_from(ACTIONS), min_size=30, max_size=60)):
        action(world)
    world.finish()
    return world


# The worlds run while they are drawn, which a busy machine makes slow.
@pytest.mark.timeout(240)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(worlds())
def test_a_clients_stream_keeps_its_promises(world: World) -> None:
    assert "hidden" not in json.dumps(world.seen)
    check_responses(world)
    check_order(world)


def check_responses(world: World) -> None:
    """One created and one done per response, its events between them, dense indexes, all items, the summed usage."""
    open_ids: dict[str, list[str]] = {}
    finished: set[str] = set()
    for event in world.seen:
        if event["type"] == "response.created":
            response_id = event["response"]["id"]
            assert response_id not in open_ids
            assert response_id not in finished
            open_ids[response_id] = []
        elif event["type"] == "response.done":
            response = event["response"]
            items = open_ids.pop(response["id"])
            finished.add(response["id"])
            assert [item["id"] for item in response["output"]] == items
            assert response["metadata"] == {"turn": response["id"]}
            assert response["usage"]["total_tokens"] == world.expected_usage[response["id"]]
        elif "response_id" in event:
            items = open_ids[event["response_id"]]
            if event["type"] == "response.output_item.added":
                items.append(event["item"]["id"])
            assert event["output_index"] == len(items) - 1
            assert event.get("item_id", items[-1]) == items[-1]
    assert not open_ids


def check_order(world: World) -> None:
    """Built from what it saw, the client's conversation is the model's without the hidden items."""
    mirror: list[str] = []
    for event in world.seen:
        if event["type"] == "conversation.item.added":
            previous = event["previous_item_id"]
            mirror.insert(0 if previous is None else mirror.index(previous) + 1, event["item"]["id"])
        elif event["type"] == "conversation.item.deleted":
            mirror.remove(event["item_id"])
    assert mirror == [item_id for item_id in world.model.order if not item_id.startswith("hidden")]
