"""A whole conversation of the engine's with a model that obeys its words, one step at a time.

A step is one input of the session: an event of the model's, something that came of an output, or the user's next word.
Whoever drives it may do something before any of them.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from support.talk import Talk, agent, handoff, tool
from voicebus.contracts.guardrails import GuardrailResult, GuardrailVerdict
from voicebus.contracts.tools import Outcome, ToolResult
from voicebus.engine.config import Approval, GuardrailMode, GuardrailSpec
from voicebus.engine.inputs import (
    AgentResolved,
    Approve,
    CallVetted,
    CommitAudio,
    End,
    Input,
    LinkLost,
    LinkOpened,
    ModelEvent,
    SendMessage,
    ToolErrorWorded,
    ToolResultArrived,
    VerdictArrived,
)
from voicebus.engine.outputs import (
    Dial,
    DispatchCheck,
    DispatchTool,
    DropLink,
    Output,
    ReleaseAudio,
    ResolveAgent,
    SendModel,
    VetCall,
    WordToolError,
)
from voicebus.engine.state import RECONNECT_TIMER, State
from voicebus.engine.turns import ALREADY_ACTIVE, RETRY_TIMER

Event = dict[str, Any]

TOOLS = ("note", "confirm", "weigh")
AGENTS = {
    name: agent(
        name,
        tools=[tool("note"), tool("confirm", approval=Approval.ALWAYS), tool("weigh", vetted=True)],
        handoffs=[handoff("other")],
        guardrails=[GuardrailSpec("patience", mode=GuardrailMode.HOLD, debounce=-1)] if name == "held" else (),
    )
    for name in ("first", "other", "held")
}


class Model:
    """One socket of a server: what it was told, and the events that it has yet to send.

    Asked for an answer, it calls the tools that the user's last words name (`note X`, `note X and Y`), and when it has
    their outputs it says all outputs that it knows, and those words.
    """

    def __init__(self, ids: Iterator[int], speech: Mapping[str, str]) -> None:
        self.coming: deque[Event] = deque([{"type": "session.created", "session": {"id": "sess"}}])
        self.items: dict[str, Event] = {}
        self.active = ""
        self.is_turn_due = False
        self._ids = ids
        self._speech = speech

    def hears(self, output: SendModel) -> None:
        event = output.event
        match event["type"]:
            case "session.update":
                self.coming.append({"type": "session.updated", "session": event["session"]})
            case "conversation.item.create":
                self._create(event, output.speech)
            case "conversation.item.delete":
                self.items.pop(event["item_id"], None)
                self.coming.append({"type": "conversation.item.deleted", "item_id": event["item_id"]})
            case "response.create" if self.active:
                self._refuse(ALREADY_ACTIVE, event)
            case "response.create":
                self._answer((event.get("response") or {}).get("metadata"))
            case "response.cancel" if not self.active:
                self._refuse("response_cancel_not_active", event)
            case kind:
                raise AssertionError(f"{kind} is not expected here")

    def says(self, words: str, *, by_hand: bool) -> None:
        """The user's speech is heard: a turn, which is answered at once where the model found its end."""
        item_id = f"item_{next(self._ids)}"
        if not by_hand:
            for kind in ("speech_started", "speech_stopped"):
                self.coming.append({"type": f"input_audio_buffer.{kind}", "item_id": item_id})
        self.coming.append({"type": "input_audio_buffer.committed", "item_id": item_id, "words": words})
        content = [{"type": "input_audio", "transcript": None}]
        self._add({"id": item_id, "type": "message", "role": "user", "status": "completed", "content": content}, words)
        kind = "conversation.item.input_audio_transcription.completed"
        self.coming.append({"type": kind, "item_id": item_id, "content_index": 0, "transcript": words})
        if not by_hand:
            self._answer(None)

    def sent(self, event: Event) -> None:
        """This one is told now."""
        if event["type"] == "response.done":
            self.active = ""

    def _refuse(self, code: str, event: Mapping[str, Any]) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": code, "event_id": event.get("event_id")}
        self.coming.append({"type": "error", "error": error})

    def _create(self, event: Mapping[str, Any], speech: str | None) -> None:
        item = {"id": f"item_{next(self._ids)}", "status": "completed", **event["item"]}
        if item["id"] in self.items:
            self._refuse("item_create_duplicate_item_id", event)
            return
        words = None if speech is None else self._speech.get(speech)
        if words is not None:  # its sound was kept, and is told in place of the text
            item["content"] = [{"type": "input_audio", "transcript": None}]
        self._add(item, words)

    def _add(self, item: Event, words: str | None = None) -> None:
        previous = next(reversed(self.items), None)
        self.items[item["id"]] = {**item, "words": words or _words(item)}
        for kind in ("conversation.item.added", "conversation.item.done"):
            self.coming.append({"type": kind, "item": item, "previous_item_id": previous})

    def _answer(self, metadata: Mapping[str, Any] | None) -> None:
        self.active = f"resp_{next(self._ids)}"
        response: Event = {"id": self.active, "conversation_id": "conv", "metadata": metadata, "output": []}
        self.coming.append({"type": "response.created", "response": {**response, "status": "in_progress"}})
        asked, made = "", ""
        for item in self.items.values():
            if item.get("role") == "user":
                asked, made = item["words"], ""
            made += item.get("arguments", "")
        name, _, facts = asked.partition(" ")
        wanted = facts.split(" and ") if name in (*TOOLS, "transfer_to_other") else []
        # Calls that were cut off have not been made.
        wanted = [fact for fact in wanted if f'"{fact}"' not in made]
        for index, fact in enumerate(wanted):
            self._call(index, name, fact)
        if not wanted:
            known = [item["output"] for item in self.items.values() if item["type"] == "function_call_output"]
            self._say(f"I know {', '.join(sorted(set(known)))}; {asked}.")
        self.coming.append({"type": "response.done", "response": {**response, "status": "completed"}})

    def _call(self, index: int, name: str, fact: str) -> None:
        number = next(self._ids)
        item = {"id": f"item_{number}", "type": "function_call", "name": name, "call_id": f"call_{number}"}
        arguments = f'{{"fact": "{fact}"}}'
        place = {"response_id": self.active, "output_index": index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        self.coming.append({"type": "response.output_item.added", **place, "item": begun})
        where = {**place, "item_id": item["id"], "call_id": item["call_id"]}
        self.coming.append({"type": "response.function_call_arguments.delta", **where, "delta": arguments})
        self.coming.append({"type": "response.function_call_arguments.done", **where, "arguments": arguments})
        whole = {**item, "arguments": arguments, "status": "completed"}
        self.items[item["id"]] = {**whole, "words": ""}
        self.coming.append({"type": "conversation.item.done", "item": whole, "previous_item_id": None})
        self.coming.append({"type": "response.output_item.done", **place, "item": whole})

    def _say(self, text: str) -> None:
        item = {"id": f"item_{next(self._ids)}", "type": "message", "role": "assistant"}
        place = {"response_id": self.active, "output_index": 0}
        begun = {**item, "status": "in_progress", "content": []}
        self.coming.append({"type": "response.output_item.added", **place, "item": begun})
        self.coming.append({"type": "conversation.item.added", "item": begun, "previous_item_id": None})
        where = {**place, "item_id": item["id"], "content_index": 0}
        self.coming.append({"type": "response.content_part.added", **where, "part": {"type": "text", "text": ""}})
        half = len(text) // 2
        for delta in (text[:half], text[half:]):
            self.coming.append({"type": "response.output_text.delta", **where, "delta": delta})
        self.coming.append({"type": "response.output_text.done", **where, "text": text})
        self.coming.append({"type": "response.content_part.done", **where, "part": {"type": "text", "text": text}})
        whole = {**item, "status": "completed", "content": [{"type": "output_text", "text": text}]}
        self.items[item["id"]] = {**whole, "words": text}
        self.coming.append({"type": "conversation.item.done", "item": whole, "previous_item_id": None})
        self.coming.append({"type": "response.output_item.done", **place, "item": whole})


def _words(item: Mapping[str, Any]) -> str:
    return " ".join(part.get("text") or part.get("transcript") or "" for part in item.get("content", ()))


class ScriptedTalk:
    """Holds a conversation: `script` are the user's turns, `type X`, `speak X` or `push X`.

    `before` is called before each step, with its number.
    """

    def __init__(self, script: Sequence[str], *, name: str = "first", before: Callable[["ScriptedTalk", int], None]):
        self.talk = Talk(AGENTS[name], words_errors=True)
        self.steps = 0
        self._script = deque(script)
        self._before = before
        self._ids = itertools.count(1)
        self._speech: dict[str, str] = {}
        self._unheard: deque[tuple[str, bool]] = deque()
        self.model: Model | None = Model(self._ids, self._speech)
        self._came: deque[Input] = deque()
        self._perform(self.talk.all)

    @property
    def is_over(self) -> bool:
        return self.talk.session.state is State.CLOSED

    def hold(self) -> "ScriptedTalk":
        while not self.is_over and self._step():
            if self.steps > 20_000:
                raise AssertionError("the conversation does not end")
        return self

    def put(self, item: Input) -> None:
        if isinstance(item, LinkLost):
            self.model = None
        self._perform(self.talk.put(item))

    def _step(self) -> bool:
        self._before(self, self.steps)
        self.steps += 1
        timers = self.talk.timers()
        if self.is_over:
            return False
        if self.model is not None and self.model.coming:
            event = self.model.coming.popleft()
            self.model.sent(event)
            if event["type"] == "input_audio_buffer.committed":
                self._unheard.popleft()
                self._speech[event["item_id"]] = event.pop("words")
            self.put(ModelEvent(event))
        elif self._came:
            self.put(self._came.popleft())
        elif key := next((key for key in (RECONNECT_TIMER, RETRY_TIMER) if key in timers), None):
            self._perform(self.talk.timer(key))
        elif self._script:
            self._say(*self._script.popleft().split(" ", 1))
        else:
            self.put(End("hangup"))
            return False
        return True

    def _say(self, way: str, words: str) -> None:
        if way == "type":
            self.put(SendMessage([{"type": "input_text", "text": words}]))
            return
        self._unheard.append((words, way == "push"))
        if way == "push":
            self.put(CommitAudio())
        elif self.model is not None:
            self.model.says(words, by_hand=False)

    def _perform(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            match output:
                case SendModel():
                    self._send(output)
                case Dial():
                    self._came.append(LinkOpened())
                    self.model = None
                case DropLink():
                    self.model = None
                case ReleaseAudio() if self.model is not None:
                    for words, by_hand in self._unheard:
                        self.model.says(words, by_hand=by_hand)
                case DispatchTool():
                    fact = output.arguments.split('"')[3]
                    failed = fact == "failure"
                    result = ToolResult(call_id=output.call_id, outcome=Outcome.ERROR if failed else Outcome.OK,
                                        output="" if failed else f"noted {fact}", worker="w", duration_ms=1,
                                        error={"kind": "exception", "message": "No."} if failed else None)  # fmt: skip
                    self._came.append(ToolResultArrived(result))
                case VetCall():
                    decision = "ask" if output.tool == "confirm" and not output.approved else "run"
                    self._came.append(CallVetted(output.call_id, decision))  # type: ignore[arg-type]
                case WordToolError():
                    self._came.append(ToolErrorWorded(output.call_id, "it failed"))
                case ResolveAgent():
                    self._came.append(AgentResolved(output.call_id, AGENTS[output.to_agent]))
                case DispatchCheck():
                    results = [GuardrailResult(name=name, tripped=False) for name in output.guardrails]
                    verdict = GuardrailVerdict(check_id=output.check_id, response_id=output.response_id,
                                               results=results, worker="w", duration_ms=1)  # fmt: skip
                    self._came.append(VerdictArrived(verdict))
                case _ if getattr(output, "type", None) == "tool_approval_required":
                    self._came.append(Approve(output.data.call_id))  # type: ignore[union-attr]
                case _:
                    pass

    def _send(self, output: SendModel) -> None:
        if output.event["type"] == "input_audio_buffer.commit":
            if self.model is not None and self.talk.session.state is State.LIVE:
                self.model.says(self._unheard[-1][0], by_hand=True)
            return
        if self.model is None:
            self.model = Model(self._ids, self._speech)
        self.model.hears(output)
