"""Calls on their way to the start, in every order: people, the author's side and the clock have their say in between.

Narrower than the random conversations, so that the rare orders are met: words for all further calls that come while
others are being checked, asked about, or worded.
"""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType, ToolApprovalRequired
from voicebus.contracts.tools import Outcome
from voicebus.engine.config import Approval
from voicebus.engine.inputs import Approve, CallVetted, End, Reject, ToolErrorWorded
from voicebus.engine.outputs import DispatchTool, Output, Record, VetCall, WordToolError

TOOLS = [
    tool("asked", approval=Approval.ALWAYS),
    tool("judged", approval=Approval.ASK),
    tool("checked", approval=Approval.ASK, vetted=True),
]


class Calls(RuleBasedStateMachine):
    """One response that makes calls; `allowed` is what a person said of each tool last, for all further calls."""

    @initialize(words=st.booleans(), names=st.sampled_from([["asked", "checked"], ["checked"], ["judged"]]))
    def begin(self, words: bool, names: list[str]) -> None:
        self.names = names
        self.talk = Talk(agent(tools=TOOLS), words_errors=words).asked()
        self.tools: dict[str, str] = {}
        self.allowed: dict[str, bool] = {}
        self.approved: set[str] = set()
        self.cleared: set[str] = set()
        self.vets: list[VetCall] = []
        self.asked: list[str] = []
        self.words: list[str] = []
        self.running: list[str] = []
        self.starts: Counter[str] = Counter()

    def put(self, item: Any) -> None:
        self.look(self.talk.put(item))

    def look(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case VetCall():
                    self.vets.append(output)
                    self.cleared.discard(output.call_id)
                    if output.approved:
                        self.approved.add(output.call_id)
                    assert output.approved is (output.call_id in self.approved)
                case WordToolError():
                    self.words.append(output.call_id)
                case Record(data=ToolApprovalRequired() as question):
                    self.asked.append(question.call_id)
                    assert question.tool not in self.allowed, "that has been decided for good"
                case DispatchTool():
                    self.starts[output.call_id] += 1
                    self.running.append(output.call_id)
                    assert output.tool != "checked" or output.call_id in self.cleared, "its guardrails were not asked"
                    approved = output.call_id in self.approved
                    assert approved or self.allowed.get(output.tool) is not False, "forbidden for good"
                    assert approved or self.allowed.get(output.tool) or output.tool != "asked", "nobody said yes"

    @rule(which=st.integers(0, 1))
    def the_model_calls(self, which: int) -> None:
        name = self.names[which % len(self.names)]
        call = f"call_{len(self.tools)}"
        self.tools[call] = name
        self.look(self.talk.calls(name, call))

    @rule(data=st.data(), decision=st.sampled_from(["run", "ask", "ask", "reject"]))
    def the_authors_side_answers(self, data: st.DataObject, decision: Any) -> None:
        if not self.vets:
            return
        ask = data.draw(st.sampled_from(self.vets))
        self.vets.remove(ask)
        if decision == "run":
            self.cleared.add(ask.call_id)
        self.put(CallVetted(ask.call_id, decision))

    @rule(data=st.data(), approves=st.booleans(), always=st.booleans())
    def a_person_decides(self, data: st.DataObject, approves: bool, always: bool) -> None:
        if not self.asked:
            return
        call = data.draw(st.sampled_from(self.asked))
        self.asked.remove(call)
        if approves:
            self.approved.add(call)
        if always:
            self.allowed[self.tools[call]] = approves
        self.put(Approve(call, always) if approves else Reject(call, always))

    @rule(data=st.data(), approves=st.booleans())
    def a_person_decides_what_nobody_asked(self, data: st.DataObject, approves: bool) -> None:
        call = data.draw(st.sampled_from([*self.tools, "call_x"]))
        if call not in self.asked:
            self.put(Approve(call, always=True) if approves else Reject(call, always=True))

    @rule(data=st.data())
    def an_error_is_worded(self, data: st.DataObject) -> None:
        if not self.words:
            return
        call = data.draw(st.sampled_from(self.words))
        self.words.remove(call)
        self.put(ToolErrorWorded(call, "No."))

    @rule(data=st.data(), outcome=st.sampled_from([Outcome.OK, Outcome.ERROR]))
    def a_tool_answers(self, data: st.DataObject, outcome: Outcome) -> None:
        if not self.running:
            return
        call = data.draw(st.sampled_from(self.running))
        self.running.remove(call)
        self.look(self.talk.result("sunny", call, outcome))

    @rule(data=st.data(), often=st.integers(0, 5))
    def a_call_has_no_more_time(self, data: st.DataObject, often: int) -> None:
        keys = sorted(key for key in self.talk.timers() if key.startswith("call:"))
        if not keys or often:
            return
        key = data.draw(st.sampled_from(keys))
        call = key.removeprefix("call:")
        self.vets = [ask for ask in self.vets if ask.call_id != call]
        for waiting in (self.words, self.running):
            if call in waiting:
                waiting.remove(call)
        self.look(self.talk.timer(key))

    @invariant()
    def every_call_is_somewhere_once(self) -> None:
        if not hasattr(self, "talk"):
            return
        answered = [call for call, _ in self.talk.told()]
        places = [*answered, *(ask.call_id for ask in self.vets), *self.asked, *self.words, *self.running]
        assert sorted(places) == sorted(self.tools)
        assert set(self.starts.values()) <= {1}

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        self.put(End("hangup"))
        ends = Counter(end.call_id for end in self.talk.records(EventType.TOOL_END))
        assert ends == dict.fromkeys(self.tools, 1)
        asked = Counter(one.call_id for one in self.talk.records(EventType.TOOL_APPROVAL_REQUIRED))
        decided = Counter(one.call_id for one in self.talk.records(EventType.TOOL_APPROVAL_DECIDED))
        assert asked - decided == Counter(self.asked), "every question has its one answer, or waited at the end"


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
