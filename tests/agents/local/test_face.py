"""What a session shows of what its engine emits and records: objects for names, causes before what comes of them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeError, RealtimeEventInfo
from voicebus.agents.guardrails import GuardrailFunctionOutput, InputGuardrail, OutputGuardrail
from voicebus.agents.items import InputText, UserMessageItem
from voicebus.agents.local import broadcast as broadcast_module
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.local.face import EventFace
from voicebus.agents.local.showing import Showing
from voicebus.agents.models.events import (
    RealtimeModelErrorEvent,
    RealtimeModelItemUpdatedEvent,
    RealtimeModelOtherEvent,
    RealtimeModelTurnStartedEvent,
)
from voicebus.agents.tools.decorator import function_tool
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.journal import (
    ErrorRecorded,
    EventType,
    GuardrailTripped,
    SessionEnded,
    ToolApprovalRequired,
    ToolStart,
)
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import VoicebusError
from voicebus.runtime.frames import AudioDelta


@function_tool
async def find_rate(city: str) -> str:
    """Find what a room costs."""
    return city


async def _judge(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, tripwire_triggered=True)


HOSTED = HostedMCPTool({"server_label": "maps", "server_url": "https://example.org/mcp"})
JUDGE, HEARING = OutputGuardrail[Any](_judge, "judge"), InputGuardrail[Any](_judge, "hearing")
DESK, NIGHT = RealtimeAgent[Any]("desk"), RealtimeAgent[Any]("night")
INFO = RealtimeEventInfo(RunContextWrapper(None))
ITEM = {
    "item_id": "u1", "previous_item_id": None, "type": "message", "role": "user", "status": "completed",
    "content": [{"type": "input_text", "text": "hi"}],
}  # fmt: skip


class Names:
    """Snapshot 1 is the desk's; nobody else has tools."""

    def agent(self, name: str) -> RealtimeAgent[Any]:
        return {"desk": DESK, "night": NIGHT}[name]

    def tool(self, snapshot: int, name: str) -> Any:
        return {"find_rate": find_rate, "maps": HOSTED}.get(name) if snapshot == 1 else None

    def guardrail(self, snapshot: int, name: str) -> Any:
        return {"judge": JUDGE, "hearing": HEARING}.get(name) if snapshot == 1 else None


class Stage:
    def __init__(self) -> None:
        told: list[tuple[Any, ...]] = []
        names = ("agent_start", "agent_end", "handoff", "tool_start", "tool_end")
        hooks = SimpleNamespace(**{name: lambda *about, name=name: told.append((name, *about)) for name in names})
        tools = SimpleNamespace(outputs={})
        checks = SimpleNamespace(finding=lambda item_id, name: None)
        self.told = told
        self.broadcast = Broadcast(dropped=lambda count: RealtimeError(count, INFO))
        self.showing = Showing(
            Names(), INFO, cast("Any", hooks), cast("Any", tools), cast("Any", checks), current=DESK, snapshot=1
        )
        self.face = EventFace(self.broadcast, self.showing, listeners=None)

    async def shown(self) -> list[Any]:
        self.broadcast.end()
        return [event async for event in self.broadcast]

    async def emitted(self, kind: str, **data: Any) -> Any:
        self.face.emit(kind, 7, 0, data)
        (event,) = await self.shown()
        assert event.seq == 7
        return event

    async def recorded(self, kind: EventType, data: Any) -> Any:
        self.face.record(7, kind, 0, data)
        (event,) = await self.shown()
        assert event.seq == 7
        return event


async def test_progress_of_a_tool_names_the_tool_and_the_agent_that_called_it() -> None:
    stage = Stage()
    stage.showing.current = NIGHT
    event = await stage.emitted("tool_progress", call_id="c1", tool="find_rate", agent="desk", text="half")
    assert (event.agent, event.tool, event.call_id, event.text) == (DESK, find_rate, "c1", "half")


async def test_tools_of_hosted_servers_are_shown() -> None:
    assert (await Stage().emitted("mcp_tool_call_completed", item={"id": "m"})).item == {"id": "m"}
    assert (await Stage().emitted("mcp_tools_changed", tools=[{"name": "t"}])).tools == [{"name": "t"}]
    asked = ToolApprovalRequired(call_id="c1", tool="maps.find", arguments="{}", agent="desk")
    assert (await Stage().recorded(EventType.TOOL_APPROVAL_REQUIRED, asked)).tool is HOSTED


async def test_a_tool_that_is_not_there_any_more_is_shown_by_its_name() -> None:
    start = ToolStart(call_id="c1", item_id="i", tool="gone", arguments="{}", agent="night", started_ms=0)
    event = await Stage().recorded(EventType.TOOL_START, start)
    assert (event.agent, event.tool) == (NIGHT, RemoteTool("gone"))


async def test_an_agent_is_known_as_it_took_over() -> None:
    stage = Stage()
    stage.showing.took_over("night", 1)
    start = ToolStart(call_id="c1", item_id="i", tool="find_rate", arguments="{}", agent="night", started_ms=0)
    assert (await stage.recorded(EventType.TOOL_START, start)).tool is find_rate


async def test_guardrails_that_tripped_by_their_policy_are_shown_with_what_was_recorded() -> None:
    tripped = GuardrailTripped(
        response_id="r", item_id="i", agent="desk", guardrails=["judge", "gone"], info={"judge": "late"},
        message="text", at_ms=0,
    )  # fmt: skip
    event = await Stage().recorded(EventType.GUARDRAIL_TRIPPED, tripped)
    (result,) = event.guardrail_results
    assert (result.guardrail, result.agent, result.agent_output) == (JUDGE, DESK, "text")
    assert result.output == GuardrailFunctionOutput("late", tripwire_triggered=True)


async def test_input_guardrails_are_shown_with_what_the_user_said() -> None:
    event = await Stage().emitted("input_guardrail_tripped", item_id="u1", guardrails=["hearing"], message="curse")
    assert (event.message, event.item_id) == ("curse", "u1")
    assert [result.guardrail for result in event.guardrail_results] == [HEARING]


async def test_what_a_client_did_wrong_is_an_error() -> None:
    event = await Stage().emitted("error", code="bad", message="No.", param=None, id=None)
    assert (event.error.code, event.error.message) == ("bad", "No.")


async def test_what_programs_have_no_event_for_is_not_shown() -> None:
    stage = Stage()
    stage.face.emit("of_tomorrow", 1, 0, {})
    stage.face.record(2, EventType.SESSION_ENDED, 0, SessionEnded(reason="ended", duration_ms=1))
    stage.face.server_event({})
    stage.face.ready()
    assert await stage.shown() == []


async def test_an_item_without_a_form_is_left_out() -> None:
    stage = Stage()
    odd = {**ITEM, "item_id": "u2", "role": "clown"}
    stage.face.emit("history_added", 1, 0, {"item": odd})
    stage.face.emit("history_updated", 1, 0, {"history": [ITEM, odd]})
    (event,) = await stage.shown()
    assert [item.item_id for item in event.history] == ["u1"]


async def test_an_item_that_stays_is_one_object_and_old_ones_are_forgotten() -> None:
    stage = Stage()
    (first,) = stage.face.items([ITEM])
    (second,) = stage.face.items([ITEM])
    assert first is second
    for _ in range(300):
        (other,) = stage.face.items([dict(ITEM)])
    assert other is not first
    assert len(stage.face._items) <= 70


async def test_a_history_that_is_full_and_loses_its_oldest_items_is_not_gone_through_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    history = [{**ITEM, "item_id": f"u{number}"} for number in range(1000)]
    before = stage.face.items(history)
    asked: list[Any] = []
    made = stage.face._made
    monkeypatch.setattr(stage.face, "_made", lambda item: asked.append(item) or made(item))  # type: ignore[func-returns-value]
    for lost in range(1, 6):
        history = [*history[lost:], *({**ITEM, "item_id": f"n{lost}-{number}"} for number in range(lost))]
        asked.clear()
        after = stage.face.items(history)
        assert asked == history[-lost:]
        assert [item.item_id for item in after] == [item["item_id"] for item in history]
        assert all(one is other for one, other in zip(after, before[lost:], strict=False))
        before = after


async def test_a_history_that_is_another_one_is_shown_as_it_is() -> None:
    stage = Stage()
    history = [{**ITEM, "item_id": f"u{number}"} for number in range(20)]
    stage.face.items(history)
    for other in (history[10:], history[::-1], history[3:], [], history, [history[5], *history[:3]], history[1:]):
        assert [item.item_id for item in stage.face.items(other)] == [item["item_id"] for item in other]


async def test_sound_is_shown_as_three_events_and_by_another_way_where_somebody_listens_to_the_model() -> None:
    stage = Stage()
    delta = AudioDelta("response.output_audio.delta", "r", "i", "AAA=", samples=b"\0\0")
    where = ForwardAudio("r", "i", 0, 0)
    assert stage.face.sounded(where, delta, 100, 7)
    raw, audio, shown = await stage.shown()
    assert [event.type for event in (raw, audio, shown)] == ["raw_model_event", "raw_model_event", "audio"]
    assert (shown.audio.data, shown.item_id, shown.seq) == (b"\0\0", "i", 7)
    stage.face._heard_by = (object(),)
    assert not stage.face.sounded(where, delta, 100, 7)
    assert await stage.shown() == []


async def test_items_that_no_history_ever_shows_are_forgotten() -> None:
    stage = Stage()
    for number in range(300):
        stage.face.emit("history_added", 1, 0, {"item": {**ITEM, "item_id": f"u{number}"}})
    assert len(await stage.shown()) == 300
    assert len(stage.face._items) <= 70


async def test_an_item_that_was_added_is_the_same_object_in_the_history() -> None:
    stage = Stage()
    items = [{**ITEM, "item_id": f"u{number}"} for number in range(200)]
    for item in items:
        stage.face.emit("history_added", 1, 0, {"item": item})
    stage.face.emit("history_updated", 1, 0, {"history": items})
    stage.face.emit("history_updated", 1, 0, {"history": items[1:]})
    *added, whole, rest = await stage.shown()
    assert whole.history[-1] is added[-1].item
    assert all(one is other for one, other in zip(whole.history[1:], rest.history, strict=True))


async def test_a_cause_is_shown_before_what_comes_of_it_and_the_rest_at_the_end() -> None:
    stage = Stage()
    started = RealtimeModelTurnStartedEvent(response_id="r")
    stage.face.expect([RealtimeModelOtherEvent(1), started, RealtimeModelOtherEvent(2)])
    stage.face.emit("transcript_delta", 1, 0, {"item_id": "i", "role": "user", "delta": "a", "text": "a"})
    stage.face.emit("of_tomorrow", 1, 0, {})
    stage.face.emit("agent_start", 1, 0, {"agent": "desk", "response_id": "r"})
    stage.face.settle()
    kinds = [event.type if event.type != "raw_model_event" else event.data for event in await stage.shown()]
    assert kinds == [
        "transcript_delta", RealtimeModelOtherEvent(1), started, "agent_start", RealtimeModelOtherEvent(2),
    ]  # fmt: skip
    assert stage.told == [("agent_start", DESK)]


async def test_an_item_that_may_explain_a_change_is_shown_only_if_there_is_one() -> None:
    stage = Stage()
    item = UserMessageItem(item_id="u1", content=[InputText(text="hi")])
    stage.face.expect_item(item)
    stage.face.settle()
    stage.face.emit("history_updated", 1, 0, {"history": []})
    stage.face.expect_item(item)
    stage.face.emit("history_updated", 1, 0, {"history": [ITEM]})
    stage.face.settle()
    first, cause, second = await stage.shown()
    assert cause.data == RealtimeModelItemUpdatedEvent(item)
    assert (first.type, second.type) == ("history_updated", "history_updated")


async def test_a_models_own_error_is_shown_as_it_came_and_others_as_recorded() -> None:
    stage = Stage()
    recorded = ErrorRecorded(code="odd", message="It is odd.", source="model", at_ms=0)
    own = ValueError("odd")
    stage.face.failed_with(own)
    stage.face.expect([RealtimeModelErrorEvent(own)])
    stage.face.record(1, EventType.ERROR, 0, recorded)
    stage.face.settle()
    stage.face.record(2, EventType.ERROR, 0, recorded)
    _, first, second = await stage.shown()
    assert first.error is own
    assert dict(second.error) == dict(RealtimeErrorDetails("It is odd.", "odd", "model_error"))


async def test_a_session_that_failed_says_so_at_the_end() -> None:
    stage = Stage()
    stage.face.close(1011, "error")
    with pytest.raises(VoicebusError, match="The session failed"):
        await stage.shown()


def test_what_was_dropped_is_counted() -> None:
    event = Stage().face.dropped(12)
    assert isinstance(event, RealtimeError)
    assert (event.error.code, event.error.count) == ("events_dropped", 12)


# --- what events weigh until they are read -------------------------------------------------------------


async def test_a_transcript_delta_weighs_as_much_as_the_whole_text_that_it_carries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast_module, "MAX_BYTES", 100_000)
    stage = Stage()
    for number in range(100):
        text = "x" * (10_000 + number)
        stage.face.begin(50)  # a frame with one letter
        stage.face.emit(
            "transcript_delta", number, 0, {"item_id": "i", "role": "assistant", "delta": "x", "text": text}
        )
        stage.face.settle()
    told, *kept = await stage.shown()
    assert told.error == 100 - len(kept)
    assert 0 < len(kept) < 10
    assert kept[-1].seq == 99


async def test_a_history_weighs_the_items_that_it_keeps_alive_once_for_all_events_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broadcast_module, "MAX_BYTES", 100_000)
    stage = Stage()
    first = {**ITEM, "content": [{"type": "input_text", "text": "x" * 10_000}]}
    for number in range(50):
        stage.face.emit("history_updated", number, 0, {"history": [first]})
    for number in range(50):
        grown = {**ITEM, "item_id": "u2", "content": [{"type": "input_text", "text": "x" * (10_000 + number)}]}
        stage.face.emit("history_updated", 50 + number, 0, {"history": [first, grown]})
        if number == 5:
            assert len(stage.broadcast._queues[0].events) == 56
    told, *kept = await stage.shown()
    assert told.error == 100 - len(kept)
    assert 0 < len(kept) < 10
    assert len(kept[-1].history) == 2
