"""Whatever the model, the workers, the client and the clock do, in whatever order: what always holds of a session.

A small twin of a model's server answers `response.create`, speaks, calls tools and breaks the rules now and then:
events come twice, late, or about nothing; creates are refused or never answered.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.talk import VAD, Talk, agent, handoff, tool
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.contracts.tools import Outcome, ToolProgress, ToolStarted
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, Approval, Face, GuardrailMode, GuardrailSpec, HoldSpec, HostedToolSpec
from voicebus.engine.inputs import (
    AgentResolved,
    AgentUnresolved,
    Approve,
    CallVetted,
    ChangeSettings,
    CommitAudio,
    End,
    Input,
    Interrupt,
    LinkLost,
    LinkOpened,
    ListenerBack,
    ListenerLeft,
    ModelEvent,
    Playback,
    Reject,
    ReplaceHistory,
    SendRaw,
    ToolErrorWorded,
    ToolProgressArrived,
    ToolStartedArrived,
    Trouble,
    UpdateAgent,
)
from voicebus.engine.outputs import (
    Close,
    DispatchCheck,
    DispatchTool,
    DropLink,
    ForwardAudio,
    Output,
    Record,
    ResolveAgent,
    SendModel,
    VetCall,
    WordToolError,
)
from voicebus.engine.session import Session
from voicebus.engine.state import State

# A failure is made smaller before it is shown, and a soak takes its time.
pytestmark = pytest.mark.timeout(max(300, settings().max_examples))

ALREADY_ACTIVE = "conversation_already_has_active_response"
STATUSES = st.sampled_from(["completed"] * 4 + ["cancelled", "failed", "incomplete"])
KINDS = ["rejected", "guardrail", "unknown_tool"]
ODD = st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=5), st.just({}), st.just([{}]), st.just({"id": "x"}))


def helper(name: str = "helper", *, vad: Mapping[str, Any] | None = VAD) -> AgentSpec:
    return agent(
        name,
        tools=[
            tool("together"),
            tool("always", respond="always"),
            tool("never", respond="never", timeout_ms=500),
            tool("asked", approval=Approval.ALWAYS),
            tool("checked", approval=Approval.ASK, vetted=True),
            tool("later", background=True, speak_progress=True),
            tool("slow", speak_progress=True, hold=HoldSpec(("Wait.",), 500, 2000)),
        ],
        hosted_tools=(HostedToolSpec("docs", {"type": "mcp", "server_label": "docs"}, vetted=True),),
        handoffs=[handoff("billing"), handoff("sales")],
        guardrails=[
            GuardrailSpec("rude", debounce=8, on_unavailable="closed"),
            GuardrailSpec("watch", mode=GuardrailMode.OBSERVE, debounce=-1),
        ],
        vad=vad,
    )


def said_before(item: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": item}]
    return {"item_id": item, "type": "message", "role": "user", "content": content}


class Conversation(RuleBasedStateMachine):
    """One session on the native face, against the twin."""

    face = Face.NATIVE

    @initialize(echoes=st.booleans(), interrupts=st.booleans(), words=st.booleans(), seeds=st.integers(0, 2))
    def connect(self, echoes: bool, interrupts: bool, words: bool, seeds: int) -> None:
        self.echoes = echoes
        who = helper(vad={**VAD, "interrupt_response": interrupts})
        seed = tuple(said_before(f"seed_{number}") for number in range(seeds))
        self.talk = Talk(who, face=self.face, words_errors=words, seed=seed)
        self.count = 0
        # The twin: creates that it has not looked at, the response that it runs, and those it has ended.
        self.requests: list[Mapping[str, Any]] = []
        self.running: str | None = None
        self.ended: list[str] = []
        self.items: list[str] = []
        self.received: Counter[str] = Counter()
        # What the session has done.
        self.unanswered: set[str] = set()
        self.marks_came_back = False
        self.seq = 0
        self.calls: list[str] = []
        self.dispatched: Counter[str] = Counter()
        self.outputs_given: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.checks: list[str] = []
        self.handoffs: list[str] = []
        # Calls that wait: for the author's side, for a person, for the wording of their errors; and what was said.
        self.vets: list[VetCall] = []
        self.asked: list[str] = []
        self.words: list[str] = []
        self.approved: set[str] = set()
        self.forbidden: set[str] = set()
        # What the program does by itself is not the session's doing; its own creates, by their event ids, have marks.
        self.by_program = False
        self.cancelled_by_program: set[str] = set()
        self.plays_on: set[str] = set()
        self.marks: dict[str, str] = {}
        self.order: list[str] = []
        self.updates = 0
        self.talk.put = self.watched(self.talk.put)  # type: ignore[method-assign]
        self.look(self.talk.last)
        self.talk.live()
        self.updates = 0

    def watched(self, put: Any) -> Any:
        def watch(item: Input, *, after: float = 0.0) -> list[Output]:
            self.before(item)
            outputs: list[Output] = put(item, after=after)
            self.look(outputs)
            return outputs

        return watch

    def before(self, item: Input) -> None:
        """What `item` answers, as anybody could tell who reads along."""
        if not isinstance(item, ModelEvent):
            return
        event = item.event
        if event["type"] == "response.created" and isinstance(event.get("response"), Mapping):
            mark = (event["response"].get("metadata") or {}).get("voicebus")
            if mark is not None:
                self.marks_came_back = True
                self.unanswered.discard(mark)
        elif event["type"] == "error" and isinstance(event.get("error"), Mapping):
            event_id = event["error"].get("event_id")
            self.unanswered.discard(self.marks.get(event_id, event_id))
        elif event["type"] == "response.done" and not self.marks_came_back:
            self.unanswered.clear()

    def look(self, outputs: list[Output]) -> None:
        if self.talk.session.state is State.RECONNECTING:
            self.marks_came_back = False  # whether another server repeats them is not known yet
        for position, output in enumerate(outputs):
            match output:
                case Record():
                    self.seq += 1
                    assert output.seq == self.seq
                    self.look_at_record(output)
                case SendModel():
                    self.look_at_sent(output.event)
                case DropLink():
                    self.forgets()
                case DispatchTool():
                    self.dispatched[output.call_id] += 1
                    assert self.dispatched[output.call_id] == 1, "a call starts at most once"
                    allowed = output.call_id in self.approved or output.tool not in self.forbidden
                    assert allowed, "what was forbidden for good does not run"
                    assert output.tool != "asked" or {output.call_id, "asked"} & self.approved, "nobody has approved it"
                    assert output.call_id not in self.asked, "it waits for a person still"
                case VetCall():
                    self.vets.append(output)
                    if output.approved:
                        self.approved.add(output.call_id)
                case WordToolError():
                    self.words.append(output.call_id)
                case DispatchCheck():
                    self.checks.append(output.check_id)
                case ResolveAgent():
                    self.handoffs.append(output.call_id)
                    assert len(self.handoffs) == 1, "one handoff at a time"
                case ForwardAudio() if self.face is Face.NATIVE:
                    stopped = set(self.cancelled) - self.plays_on
                    assert output.response_id not in stopped, "audio of a response that was stopped"
                case Close():
                    assert position == len(outputs) - 1, "nothing comes after Close"

    def look_at_record(self, record: Record) -> None:
        data: Any = record.data
        match record.type:
            case EventType.ITEM_RECORDED:
                self.recorded[data.item_id] += 1
                assert self.recorded[data.item_id] == 1, "an item is recorded once"
                assert data.heard_text is None or data.truncated
            case EventType.TOOL_END:
                self.ends[data.call_id] += 1
                assert self.ends[data.call_id] == 1
            case EventType.TOOL_APPROVAL_REQUIRED:
                self.asked.append(data.call_id)
            case EventType.ERROR if data.code == "response_stalled":
                assert self.running is not None
                assert self.cancelled[self.running] == 1 or self.running in self.cancelled_by_program
                self.ended.append(self.running)
                self.running = None
                if not self.marks_came_back:
                    self.unanswered.clear()  # it counts as the answer, as its end would have
            case _:
                pass

    def look_at_sent(self, event: Mapping[str, Any]) -> None:
        if self.by_program and event["type"] not in ("response.create", "session.update"):
            return
        match event["type"]:
            case "response.create":
                if event["response"].get("conversation") != "none":
                    assert not self.unanswered, "one outstanding response.create"
                    mark = event["response"].get("metadata", {}).get("voicebus", event["event_id"])
                    self.marks[event["event_id"]] = mark
                    self.unanswered.add(mark)
                    assert self.running is None, "no create while a response runs"
                self.requests.append(event)
            case "response.cancel":
                self.cancelled[event["response_id"]] += 1
                assert self.cancelled[event["response_id"]] == 1, "one cancel for each response"
            case "conversation.item.truncate":
                assert 0 <= event["audio_end_ms"] <= self.received[event["item_id"]] / 48
            case "session.update":
                self.updates += 1
            case "conversation.item.create" if event["item"]["type"] == "function_call_output":
                call = event["item"]["call_id"]
                self.outputs_given[call] += 1
                assert self.outputs_given[call] == 1, "one result for each call"
            case "conversation.item.create" if event["item"]["type"] == "mcp_approval_response":
                request = event["item"]["approval_request_id"]
                self.outputs_given[request] += 1
                assert self.outputs_given[request] == 1, "one decision for each request"

    def next_id(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    @property
    def is_open(self) -> bool:
        return self.talk.session.state is not State.CLOSED

    # --- the user and the client ----------------------------------------------------------------------

    @rule(text=st.text(max_size=5))
    def a_message_comes(self, text: str) -> None:
        self.talk.asks(text)

    @rule(responds=st.booleans())
    def audio_is_committed(self, responds: bool) -> None:
        self.talk.put(CommitAudio(responds))

    @rule()
    def somebody_interrupts(self) -> None:
        self.talk.put(Interrupt())

    @rule(data=st.data(), cancel=st.booleans(), truncate=st.booleans())
    def somebody_interrupts_one_response(self, data: st.DataObject, cancel: bool, truncate: bool) -> None:
        named = [*self.ended, *([self.running] if self.running else []), "resp_nobody_knows"]
        response = data.draw(st.sampled_from(named))
        if cancel and not truncate:
            self.plays_on.add(response)
        self.talk.put(Interrupt(response, cancel, truncate))

    # --- the program ----------------------------------------------------------------------------------

    def send_raw(self, kind: str, **fields: Any) -> None:
        self.by_program = True
        self.talk.put(SendRaw({"type": kind, **fields}))
        self.by_program = False

    @rule(response=st.sampled_from([{}, {"conversation": "none"}, {"instructions": "Sing.", "metadata": {"a": "b"}}]))
    def the_program_asks_for_a_response(self, response: Mapping[str, Any]) -> None:
        self.send_raw("response.create", event_id=self.next_id("raw"), response=response)

    @precondition(lambda self: self.running is not None)
    @rule(named=st.booleans())
    def the_program_cancels(self, named: bool) -> None:
        self.cancelled_by_program.add(self.running or "")
        self.send_raw("response.cancel", **({"response_id": self.running} if named else {}))

    @precondition(lambda self: self.items)
    @rule(data=st.data(), end=st.integers(-5, 2000))
    def the_program_truncates(self, data: st.DataObject, end: int) -> None:
        item = data.draw(st.sampled_from(self.items))
        self.send_raw("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=end)

    @rule(tokens=st.integers(1, 5), raw=st.booleans())
    def the_program_changes_settings(self, tokens: int, raw: bool) -> None:
        if raw:
            self.send_raw("session.update", session={"type": "realtime", "max_output_tokens": tokens})
        else:
            self.talk.put(ChangeSettings({"max_output_tokens": tokens}))

    @rule(odd=ODD, kind=st.sampled_from(["session.update", "conversation.item.truncate", "nonsense", ""]))
    def the_program_talks_nonsense(self, odd: Any, kind: str) -> None:
        self.send_raw(kind, session=odd if not isinstance(odd, dict) else None, item_id=odd, audio_end_ms=odd)

    @rule(data=st.data(), echoed=st.booleans())
    def the_program_replaces_the_history(self, data: st.DataObject, echoed: bool) -> None:
        known = list(self.talk.session.history)
        wanted = data.draw(st.permutations(known)) if known else []
        wanted = wanted[: data.draw(st.integers(0, len(known)))]
        if data.draw(st.booleans()):
            wanted.append(said_before(self.next_id("made")))
        self.by_program = True
        self.talk.put(ReplaceHistory(wanted))
        self.by_program = False
        self.order = [item["item_id"] for item in self.talk.session.history]
        if echoed:
            for event in [output.event for output in self.talk.of(SendModel, self.talk.last)]:
                if event["type"] == "conversation.item.delete":
                    self.talk.model("conversation.item.deleted", item_id=event["item_id"])
                else:
                    self.talk.model("conversation.item.added", item=event["item"], previous_item_id=None)

    @precondition(lambda self: self.items)
    @rule(data=st.data(), played=st.floats(-10, 5000))
    def the_listener_reports(self, data: st.DataObject, played: float) -> None:
        self.talk.put(Playback(data.draw(st.sampled_from(self.items)), 0, played))

    @rule(away=st.floats(0, 120), from_seq=st.none() | st.integers(0, 50))
    def nobody_listens_for_a_while(self, away: float, from_seq: int | None) -> None:
        self.talk.put(ListenerLeft())
        self.talk.put(ListenerBack(from_seq), after=away)

    @rule()
    def the_listener_leaves(self) -> None:
        self.talk.put(ListenerLeft())

    @rule()
    def a_listener_comes(self) -> None:
        self.talk.put(ListenerBack(1))

    @rule(transcript=st.sampled_from(["in time", "late", "never", "failed"]), previous=st.booleans())
    def the_user_speaks(self, transcript: str, previous: bool) -> None:
        item = self.next_id("user")
        if transcript == "failed":
            kind = "conversation.item.input_audio_transcription.failed"
            self.talk.model(kind, item_id=item, error={"message": "Noise."})
        self.talk.user_speaks(item, previous=self.items[-1] if previous and self.items else None)
        if transcript == "in time":
            self.talk.transcript("hello", item)
        elif transcript == "late":
            self.items.append(item)

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def a_transcript_comes_for_any_item(self, data: st.DataObject) -> None:
        self.talk.transcript("late words", data.draw(st.sampled_from(self.items)))

    # --- the model ------------------------------------------------------------------------------------

    @precondition(lambda self: self.requests)
    @rule(fate=st.sampled_from(["made"] * 5 + ["refused", "refused without id", "lost"]))
    def the_model_takes_a_create(self, fate: str) -> None:
        create = self.requests.pop(0)
        out_of_band = create["response"].get("conversation") == "none"
        if fate == "lost":
            return
        if self.running is not None and not out_of_band:
            self.talk.fails(ALREADY_ACTIVE, event_id=create["event_id"])
        elif fate == "refused":
            self.talk.fails("invalid_value", event_id=create["event_id"])
        elif fate == "refused without id" and not out_of_band:
            self.unanswered.clear()  # it can only be taken for the answer to the one that is outstanding
            self.talk.fails("bad_response_create")
        else:
            metadata = create["response"].get("metadata") if self.echoes else None
            self.begins(metadata, out_of_band=out_of_band)

    def begins(self, metadata: Any, *, out_of_band: bool = False) -> None:
        response = self.next_id("resp")
        conversation = None if out_of_band else "conv_1"
        if not out_of_band:
            self.running = response
        payload = {"id": response, "conversation_id": conversation, "metadata": metadata}
        self.talk.model("response.created", response=payload)
        if out_of_band:
            self.talk.ends(response)
            self.ended.append(response)

    @precondition(lambda self: self.running is None)
    @rule()
    def the_model_begins_by_itself(self) -> None:
        self.begins(None)

    @precondition(lambda self: self.running is not None)
    @rule(text=st.text(alphabet="abc ", min_size=1, max_size=9), ms=st.integers(0, 900), ends=st.booleans())
    def the_model_speaks(self, text: str, ms: int, ends: bool) -> None:
        response = self.running or ""
        item = self.next_id("item")
        self.items.append(item)
        self.talk.item_begins(item, response)
        self.talk.says(text, item, response)
        if ms:
            self.received[item] += ms * 48
            self.talk.sounds(ms, item, response)
            self.received[item] += ms * 48
            self.talk.sounds(ms, item, response, after=0.02)
        if ends:
            self.talk.said(text, item, response)
            self.talk.item_ends(text, item, response)

    @precondition(lambda self: self.running is not None)
    @rule(
        name=st.sampled_from(
            [
                "together",
                "always",
                "never",
                "later",
                "slow",
                "asked",
                "asked",
                "checked",
                "checked",
                "transfer_to_billing",
                "transfer_to_sales",
                "unknown",
            ]
        ),
        status=st.sampled_from(["completed", "completed", "incomplete"]),
    )
    def the_model_calls(self, name: str, status: str) -> None:
        call = self.next_id("call")
        self.calls.append(call)
        self.talk.calls(name, call, response=self.running or "", status=status)

    @precondition(lambda self: self.running is not None)
    @rule(label=st.sampled_from(["docs", "docs", "foreign"]), twice=st.booleans())
    def the_model_wants_to_use_a_hosted_tool(self, label: str, twice: bool) -> None:
        item = self.next_id("request")
        request = {
            "id": item,
            "type": "mcp_approval_request",
            "server_label": label,
            "name": "search",
            "arguments": "{}",
        }
        if twice:
            self.talk.model("conversation.item.done", item=request, previous_item_id=None)
        self.talk.model("response.output_item.done", response_id=self.running, output_index=0, item=request)

    @precondition(lambda self: self.calls and self.running is not None)
    @rule(
        data=st.data(), name=st.sampled_from(["together", "never"]), arguments=st.sampled_from(["{}", "[", '{"a":1}'])
    )
    def the_model_uses_a_call_id_again(self, data: st.DataObject, name: str, arguments: str) -> None:
        call = data.draw(st.sampled_from(self.calls))
        self.talk.calls(name, call, arguments, self.running or "")

    @precondition(lambda self: self.running is not None)
    @rule(status=STATUSES, twice=st.booleans())
    def the_model_ends_its_response(self, status: str, twice: bool) -> None:
        response, self.running = self.running or "", None
        if self.talk.session.state is not State.RECONNECTING:  # what is said into a lost socket nobody hears
            self.ended.append(response)
        self.talk.ends(response, status, usage={"total_tokens": 1})
        if twice:
            self.talk.ends(response, status)

    @precondition(lambda self: self.ended and self.items)
    @rule(data=st.data())
    def late_events_come_of_an_ended_response(self, data: st.DataObject) -> None:
        response, item = data.draw(st.sampled_from(self.ended)), data.draw(st.sampled_from(self.items))
        self.talk.says("late", item, response)
        self.received[item] += 20 * 48
        self.talk.sounds(20, item, response)
        self.talk.said("late", item, response)
        self.talk.model("response.created", response={"id": response, "metadata": None})

    @precondition(lambda self: self.items)
    @rule(data=st.data(), kind=st.sampled_from(["deleted", "truncated"]))
    def an_item_is_changed(self, data: st.DataObject, kind: str) -> None:
        item = data.draw(st.sampled_from(self.items))
        self.talk.model(f"conversation.item.{kind}", item_id=item, content_index=0, audio_end_ms=5)

    @precondition(lambda self: self.updates)
    @rule(refuses=st.booleans())
    def the_model_answers_an_update(self, refuses: bool) -> None:
        self.updates -= 1
        if refuses:
            self.talk.fails("cannot_update_voice", "No.")
        else:
            self.talk.model("session.updated", session={})

    @rule(
        kind=st.sampled_from(
            [
                "conversation.item.added",
                "response.output_item.added",
                "error",
                "input_audio_buffer.committed",
                "new.kind",
            ]
        ),
        odd=ODD,
    )
    def the_model_talks_nonsense(self, kind: str, odd: Any) -> None:
        self.talk.model(kind, item=odd, error=odd, item_id=odd, content_index=odd, response_id="", previous_item_id=odd)

    # --- workers, the owner, the clock ----------------------------------------------------------------

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), background=st.booleans())
    def a_worker_answers(self, data: st.DataObject, outcome: Outcome, background: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        self.talk.put(ToolStartedArrived(ToolStarted(call_id=call, worker="w")))
        self.talk.put(ToolProgressArrived(ToolProgress(call_id=call, text="...")))
        self.talk.result("output", call, outcome, background=background)

    @precondition(lambda self: self.vets)
    @rule(data=st.data(), decision=st.sampled_from(["run", "run", "ask", "ask", "reject"]), kind=st.sampled_from(KINDS))
    def the_authors_side_decides(self, data: st.DataObject, decision: Any, kind: Any) -> None:
        ask = data.draw(st.sampled_from(self.vets))
        self.vets.remove(ask)
        self.talk.put(CallVetted(ask.call_id, decision, kind=kind))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), approves=st.booleans(), always=st.booleans(), twice=st.booleans())
    def a_person_decides(self, data: st.DataObject, approves: bool, always: bool, twice: bool) -> None:
        self.decide(data.draw(st.sampled_from(self.asked)), approves, always)
        if twice and (others := [call for call in self.calls if call not in self.asked]):
            self.talk.put(Approve(data.draw(st.sampled_from(others))))

    def decide(self, call: str, approves: bool, always: bool) -> None:
        self.asked.remove(call)
        (name,) = {one.tool for one in self.talk.records(EventType.TOOL_APPROVAL_REQUIRED) if one.call_id == call}
        if approves:
            self.approved.add(call)
        if always:
            (self.approved.add if approves else self.approved.discard)(name)
            (self.forbidden.discard if approves else self.forbidden.add)(name)
        self.talk.put(Approve(call, always) if approves else Reject(call, always, "No."))

    @precondition(lambda self: self.words)
    @rule(data=st.data())
    def an_error_is_worded(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.words))
        self.words.remove(call)
        self.talk.put(ToolErrorWorded(call, "It did not work."))

    @precondition(lambda self: self.checks)
    @rule(data=st.data(), tripped=st.booleans(), error=st.sampled_from([None, "oops"]))
    def a_verdict_comes(self, data: st.DataObject, tripped: bool, error: str | None) -> None:
        result = GuardrailResult(name="rude", tripped=tripped, error=error)
        self.talk.verdict(data.draw(st.sampled_from(self.checks)), result)

    @precondition(lambda self: self.handoffs)
    @rule(resolves=st.booleans())
    def a_handoff_is_answered(self, resolves: bool) -> None:
        call = self.handoffs.pop()
        if resolves:
            self.talk.put(AgentResolved(call, helper(self.next_id("agent"))))
        else:
            self.talk.put(AgentUnresolved(call, "Nobody there."))

    @rule()
    def the_agent_is_replaced(self) -> None:
        self.talk.put(UpdateAgent(helper(self.next_id("agent"))))

    @rule()
    def something_outside_fails(self) -> None:
        self.talk.put(Trouble("bus_unreachable", "Redis is gone.", "bus"))

    @precondition(lambda self: self.talk.session.state is State.LIVE)
    @rule(again=st.booleans())
    def the_socket_is_lost(self, again: bool) -> None:
        """At any moment; sometimes the next one is lost as well, before it has been told everything."""
        self.talk.put(LinkLost("reset"))
        if again and self.talk.session.state is State.RECONNECTING:
            self.opens()
            self.talk.put(LinkLost("reset"))

    @precondition(lambda self: self.talk.session.state is State.RECONNECTING)
    @rule()
    def the_next_socket_is_there(self) -> None:
        self.reconnect()

    def reconnect(self) -> None:
        for event in self.opens():
            if event["type"] == "session.update":
                self.talk.model("session.updated", session=event["session"])
            elif event["type"] == "conversation.item.create":
                item = {"status": "completed", **event["item"]}
                self.talk.model("conversation.item.added", item=item, previous_item_id=event.get("previous_item_id"))
                self.talk.model("conversation.item.done", item=item, previous_item_id=event.get("previous_item_id"))
        assert self.talk.session.state is not State.REPLAYING

    def forgets(self) -> None:
        self.running, self.requests, self.unanswered = None, [], set()

    def opens(self) -> list[Mapping[str, Any]]:
        """The twin is a server that knows nothing; returns what it is told."""
        self.talk.timer("reconnect")
        self.forgets()  # what the lost one has said since nobody heard
        self.outputs_given.clear()
        told = [output.event for output in self.talk.put(LinkOpened()) if isinstance(output, SendModel)]
        ids = [event["item"]["id"] for event in told if event["type"] == "conversation.item.create"]
        assert len(ids) == len(set(ids)), "no item is told twice"
        calls = Counter(event["item"]["call_id"] for event in told if "call_id" in event.get("item", {}))
        assert set(calls.values()) <= {2}, "a call is told with its output"
        return told

    @precondition(lambda self: self.talk.timers())
    @rule(data=st.data())
    def a_timer_fires(self, data: st.DataObject) -> None:
        self.fire(data.draw(st.sampled_from(sorted(self.talk.timers()))))

    def fire(self, key: str) -> None:
        if key == "create":
            self.unanswered.clear()  # given up
        if key == "reconnect":
            self.reconnect()
            return
        if key.startswith("call:"):
            self.handoffs = [call for call in self.handoffs if call != key.removeprefix("call:")]
        self.talk.timer(key)

    @precondition(lambda self: self.count > 12)
    @rule(lost=st.booleans())
    def the_session_ends(self, lost: bool) -> None:
        self.talk.put(LinkLost("refused", close_code=4000) if lost else End("hangup"))

    # --- what holds -----------------------------------------------------------------------------------

    @invariant()
    def the_history_is_in_order(self) -> None:
        if not hasattr(self, "talk"):
            return
        now = [item["item_id"] for item in self.talk.session.history]
        assert len(set(now)) == len(now), "each item stands there once"
        stayed = set(self.order) & set(now)
        assert [item for item in now if item in stayed] == [item for item in self.order if item in stayed]
        self.order = now

    @invariant()
    def a_closed_session_has_said_everything(self) -> None:
        if not self.is_open:
            records = self.talk.of(Record)
            assert records[-1].type is EventType.SESSION_ENDED
            assert len(self.talk.of(Close)) == 1
            assert isinstance(self.talk.all[-1], Close)
            assert set(self.dispatched) <= set(self.ends), "every dispatched call has its end"

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        if self.is_open:
            self.everything_is_answered()
            self.talk.asks("Are you still there?")
            assert self.talk.sent("response.create", self.talk.last), "the conversation goes on"
            self.talk.put(End("hangup"))
        self.a_closed_session_has_said_everything()
        self.the_same_inputs_give_the_same_outputs()

    def everything_is_answered(self) -> None:
        """The model, the workers and the clock do their duty until nothing is left to do."""
        for _ in range(400):
            if self.talk.session.state is State.RECONNECTING:
                self.reconnect()
            elif self.running is not None:
                self.the_model_ends_its_response("completed", False)
            elif self.requests:
                self.the_model_takes_a_create("made")
            elif self.handoffs:
                self.a_handoff_is_answered(False)
            elif self.asked:
                self.decide(self.asked[0], approves=True, always=False)
            elif self.talk.timers():
                self.fire(min(self.talk.timers(), key=lambda key: self.talk.timers()[key]))
            else:
                return
        raise AssertionError(f"never idle: {self.requests}, {self.talk.timers()}")

    def the_same_inputs_give_the_same_outputs(self) -> None:
        config = self.talk.config
        view = OpenAIClientView(config) if self.face is Face.OPENAI else None
        again = Session(config, now=100.0, view=view)
        outputs = list(again.start())
        for item, now in self.talk.inputs:
            outputs.extend(again.handle(item, now))
        assert outputs == self.talk.all


class OpenAIConversation(Conversation):
    """The same with a client of the OpenAI face, through the real view."""

    face = Face.OPENAI

    @rule(response=st.sampled_from([{}, {"conversation": "none"}, {"max_output_tokens": 5}, {"metadata": {"a": "b"}}]))
    def the_client_asks_for_a_response(self, response: Mapping[str, Any]) -> None:
        self.talk.client("response.create", event_id=self.next_id("c"), response=response)

    @rule()
    def the_client_cancels(self) -> None:
        self.talk.client("response.cancel", event_id=self.next_id("c"))

    @rule(tools=st.sampled_from([[], [{"type": "function", "name": "unknown", "parameters": {}}]]))
    def the_client_declares_tools(self, tools: list[Any]) -> None:
        self.talk.client("session.update", session={"type": "realtime", "tools": tools})

    @rule(odd=ODD, kind=st.sampled_from(["response.create", "session.update", "conversation.item.create", "nonsense"]))
    def the_client_talks_nonsense(self, odd: Any, kind: str) -> None:
        self.talk.client(kind, response=odd, session=odd, item=odd, event_id=odd)


# As many examples as the profile says (tests/conftest.py).
_SETTINGS = settings(stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestConversation = Conversation.TestCase
TestConversation.settings = _SETTINGS
TestOpenAIConversation = OpenAIConversation.TestCase
TestOpenAIConversation.settings = _SETTINGS
