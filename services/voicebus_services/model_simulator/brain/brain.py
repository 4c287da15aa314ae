"""The brain itself: from the conversation and the tools to what is said or called next. It keeps no state.

What it asked before is found again by deciding the earlier turns once more: the same words always give the same
decision, so a question that stands in the conversation tells which tool and which argument it was about.
"""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from voicebus_services.model_simulator.brain import chat, wording
from voicebus_services.model_simulator.brain.answers import answer
from voicebus_services.model_simulator.brain.conversation import Done, Event, Spoken, read_items
from voicebus_services.model_simulator.brain.picking import ENOUGH, SURE, Catalogue, Catalogues, Match, request_actions
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.slots import Filling, arguments, fill
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brains import BrainContext, BrainReply, Call, Meaning, Output, Say

_TURNS_LOOKED_BACK: Final = 12
_MOST_CALLS: Final = 8
# Parts of a sentence are requests of their own where each is surely for its tool and clearly not for the other's.
_OWN: Final = 0.75
_APART: Final = 0.5
_JOINTS: Final = re.compile(
    r"(?:[.?!;]\s+(?:and\s+|then\s+|also\s+)*|,?\s+(?:and then|and also|and after that|as well as|then|also|and"
    r"|plus)\s+)",
    re.IGNORECASE,
)
# "The order number is 90417." goes on with the request before it.
_TELLS: Final = re.compile(
    r"^\W*(?:(?:the|my|our|his|her|their|its)\b[\w' ]{1,30}?\s(?:is|are)|it's|it is|that's|that is)\b", re.IGNORECASE
)

_FOLLOWS_UP: Final = re.compile(
    r"^\W*(?:and|what about|how about|or|then|now|also|for|in|on|at|the same|same|again)\b", re.IGNORECASE
)


def _today() -> date:
    return datetime.now().astimezone().date()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request whose argument was asked for."""

    tool: Tool
    filling: Filling
    asked: Parameter
    question: str


@dataclass(frozen=True, slots=True)
class _Decision:
    outputs: tuple[Output, ...]
    pending: _Pending | None = None
    understood: bool = True


class ToolPickingBrain:
    """Answers from the session's own tools.

    Args:
        today: what "tomorrow" is counted from; the local date by default.
        meaning: the sentence model that helps to pick the tool; without one the words alone decide.
    """

    def __init__(self, today: Callable[[], date] = _today, meaning: Meaning | None = None) -> None:
        self._today = today
        self._catalogues = Catalogues(meaning)
        self._slow = meaning is not None

    async def respond(self, context: BrainContext) -> BrainReply:
        """What to say or call next. Words alone take a few milliseconds; the sentence model works in a thread."""
        if not self._slow:
            return BrainReply(self.decide(context))
        return BrainReply(await asyncio.to_thread(self.decide, context))

    def decide(self, context: BrainContext) -> tuple[Output, ...]:
        """The same without a loop: pure but for today's date."""
        events = read_items(context.items)
        tools = self._catalogues.of(context.tools)
        if events and isinstance(events[-1], Done):
            return self._after_calls(events, tools)
        spoken = _since_last_call(events)
        if not any(event.role == "user" for event in spoken):
            return (Say("Hello! How can I help you?"),)
        if context.tool_choice == "none":
            return (Say(_without_tools(spoken[-1].text, tools)),)
        named = context.tool_choice.get("name") if isinstance(context.tool_choice, dict) else None
        if named or context.tool_choice == "required":
            forced = _forced(Utterance(_last_request(spoken), self._today()), tools, named)
            if forced is not None:
                return (forced,)
        decision = self._replay(spoken, tools)
        if (
            decision.understood
            or (again := _once_more(Utterance(spoken[-1].text, self._today()), tools, events)) is None
        ):
            return decision.outputs
        return again

    def _replay(self, spoken: Sequence[Spoken], tools: Catalogue) -> _Decision:
        """Decide turn by turn, so that an answer meets the question it answers."""
        pending: _Pending | None = None
        decision = _Decision((Say("Hello! How can I help you?"),))
        for event in _open_turns(spoken):
            if event.role == "assistant":
                if pending is not None and not _same_words(pending.question, event.text):
                    pending = None
                continue
            if event.role != "user":
                continue
            decision = self._turn(Utterance(event.text, self._today()), tools, pending)
            pending = decision.pending
        return decision

    def _turn(self, said: Utterance, tools: Catalogue, pending: _Pending | None) -> _Decision:
        if pending is not None:
            if chat.gives_up(said.text):
                return _Decision((Say("Okay, never mind."),))
            if (continued := _continued(said, tools, pending)) is not None:
                return continued
        return self._request(said, tools)

    def _request(self, said: Utterance, tools: Catalogue, *, without_handoffs: bool = False) -> _Decision:
        if chat.asks_for_abilities(said.text):
            return _Decision((Say(chat.abilities(tools.tools)),))
        wanted = [m for m in self._requests(said, tools, without_handoffs=without_handoffs) if m.score >= ENOUGH]
        reply = chat.small_talk(said.text)
        if not wanted or (reply is not None and wanted[0].score < SURE and len(said.tokens) <= 8):
            return _Decision((Say(reply or chat.not_understood(tools.tools)),), understood=reply is not None)
        calls: list[Output] = []
        for match in wanted:
            if match.filling.missing:
                if calls:
                    continue  # what can be done is done first; the rest is asked for when it comes up again
                asked = match.filling.missing[0]
                question = wording.question(match.tool, asked)
                return _Decision((Say(question),), _Pending(match.tool, match.filling, asked, question))
            calls.extend(_calls(match.tool, match.filling))
        return _Decision(tuple(dict.fromkeys(calls))[:_MOST_CALLS])

    def _requests(self, said: Utterance, tools: Catalogue, *, without_handoffs: bool) -> list[Match]:
        """One match for each request in the utterance; mostly there is one."""
        ranked = tools.rank(said, without_handoffs=without_handoffs)
        if not ranked:
            return []
        whole = ranked[0]
        parts = [part for part in _JOINTS.split(said.text) if part.strip()]
        if len(parts) < 2:
            return [whole]
        found: list[Match] = []
        text = parts[0]
        joined = list(_JOINTS.finditer(said.text))
        for number, part in enumerate(parts[1:]):
            following = Utterance(part, self._today())
            goes_on = _TELLS.match(part) is not None
            heres = tools.rank(Utterance(text, self._today()), without_handoffs=without_handoffs)
            theres = tools.rank(following, without_handoffs=without_handoffs)
            here, there = heres[0], theres[0]
            if self._slow and here.tool is not there.tool:
                crossed = [m.score for m in (*heres, *theres) if m.tool in (here.tool, there.tool)]
                splits = min(here.score, there.score) >= max(_OWN, sorted(crossed)[1] + _APART)
            else:
                splits = min(here.score, there.score) >= SURE - 0.08 and bool(request_actions(following)[0])
                splits = splits and (here.tool is not there.tool or _asks_twice(here, there))
            splits = splits and not goes_on and not here.filling.missing and not there.filling.missing
            if splits:
                found.append(here)
                text = part
            else:
                text += (joined[number][0] if number < len(joined) else " ") + part
        if not found:
            return [whole]
        return [*found, tools.rank(Utterance(text, self._today()), without_handoffs=without_handoffs)[0]]

    def _after_calls(self, events: Sequence[Event], tools: Catalogue) -> tuple[Output, ...]:
        done: list[Done] = []
        for event in reversed(events):
            if not isinstance(event, Done):
                break
            done.insert(0, event)
        if all(_is_handoff(call) for call in done):
            request = next((e.text for e in reversed(events) if isinstance(e, Spoken) and e.role == "user"), "")
            decision = self._request(Utterance(request, self._today()), tools, without_handoffs=True)
            helpful = any(isinstance(o, Call) for o in decision.outputs) or decision.pending is not None
            return decision.outputs if helpful else (Say("You are connected now. How can I help you?"),)
        return (Say(" ".join(_results([call for call in done if not _is_handoff(call)]))),)


def _asks_twice(here: Match, there: Match) -> bool:
    """Whether two requests for one tool differ in what it needs; otherwise the second only goes on with the first."""
    return any(here.filling.values.get(p.path) != there.filling.values.get(p.path) for p in here.tool.required)


def _since_last_call(events: Sequence[Event]) -> list[Spoken]:
    spoken: list[Spoken] = []
    for event in events:
        if isinstance(event, Done):
            spoken.clear()
        else:
            spoken.append(event)
    return spoken


def _open_turns(spoken: Sequence[Spoken]) -> Sequence[Spoken]:
    """The last turns, back to the first that was not an answer to a question (which may have been cut short)."""
    start = len(spoken)
    for _ in range(_TURNS_LOOKED_BACK):
        users = [i for i in range(start) if spoken[i].role == "user"]
        if not users:
            break
        start = users[-1]
        if start == 0 or spoken[start - 1].role != "assistant" or spoken[start - 1].text.endswith((".", "!")):
            break
    return spoken[start:]


def _last_request(spoken: Sequence[Spoken]) -> str:
    return next(event.text for event in reversed(spoken) if event.role == "user")


def _once_more(said: Utterance, tools: Catalogue, events: Sequence[Event]) -> tuple[Output, ...] | None:
    """The last call again with what is different now ("And in London?"); None when nothing is."""
    last = next((event for event in reversed(events) if isinstance(event, Done)), None)
    tool = next((t for t in tools.tools if last is not None and t.name == last.name), None)
    if last is None or tool is None or not tool.parameters or not _FOLLOWS_UP.match(said.text):
        return None
    known: dict[tuple[str, ...], Any] = {
        p.path: last.arguments[p.name] for p in tool.parameters if len(p.path) == 1 and p.name in last.arguments
    }
    fresh = fill(tool, said)
    if not fresh.values:
        return None
    filling = replace(fresh, values={**known, **fresh.values}, missing=[])
    complete = all(p.path in filling.values for p in tool.required if p in fresh.missing)
    return tuple(_calls(tool, filling)) if complete else None


def _same_words(left: str, right: str) -> bool:
    """Whether an assistant message is the question; an interrupted one may have lost its end."""
    plain = [re.sub(r"\W+", " ", text).strip().lower() for text in (left, right)]
    return bool(plain[1]) and plain[0].startswith(plain[1])


def _without_tools(text: str, tools: Catalogue) -> str:
    if chat.asks_for_abilities(text):
        return chat.abilities(tools.tools)
    return chat.small_talk(text) or "I can't use my tools for this answer, so I'd rather not guess."


def _forced(said: Utterance, tools: Catalogue, name: str | None) -> Call | None:
    """The call that `tool_choice` demands, with the best values there are; None when there is no such tool."""
    ranked = [m for m in tools.rank(said) if name is None or m.tool.name == name]
    if not ranked:
        return None
    tool = ranked[0].tool
    filling = fill(tool, said)
    values = {**filling.values, **{p.path: _stand_in(p, said) for p in filling.missing}}
    return _call(tool, replace_values(filling, values))


def replace_values(filling: Filling, values: dict[tuple[str, ...], Any]) -> Filling:
    """The filling with other values."""
    return replace(filling, values=values, missing=[], others={})


def _stand_in(parameter: Parameter, said: Utterance) -> Any:
    """A value for an argument nobody mentioned, where a call is demanded all the same: it fits the schema, no more."""
    if parameter.enum:
        return parameter.enum[0]
    if parameter.accepts("boolean"):
        return False
    if parameter.accepts("integer", "number"):
        low = parameter.schema.get("minimum", 0)
        return low if isinstance(low, int | float) else 0
    if parameter.accepts("array"):
        return []
    return said.text


def _continued(said: Utterance, tools: Catalogue, pending: _Pending) -> _Decision | None:
    """The pending request with what was answered; None when something else was asked for."""
    if chat.asks_for_abilities(said.text):
        return None
    best = tools.rank(said)[0]
    # A long sentence that is surely about another tool is a new request; a short one is an answer.
    if best.tool != pending.tool and best.score >= SURE and len(said.tokens) > 4:
        return None
    if best.tool == pending.tool and best.score >= SURE and not best.filling.missing:
        return _Decision(tuple(_calls(best.tool, best.filling)))
    filling = answer(pending.tool, pending.filling.values, pending.asked, said)
    if pending.asked in filling.missing:
        tools.choose(pending.tool, filling, said)
    if pending.asked in filling.missing:
        return _Decision((Say(pending.question),), pending)
    if filling.missing:
        asked = filling.missing[0]
        question = wording.question(pending.tool, asked)
        return _Decision((Say(question),), _Pending(pending.tool, filling, asked, question))
    return _Decision(tuple(_calls(pending.tool, filling)))


def _calls(tool: Tool, filling: Filling) -> list[Call]:
    """The call, and one more for each further value of the argument that was given several."""
    calls = [_call(tool, filling)]
    for path, values in filling.others.items():
        calls += [_call(tool, replace_values(filling, {**filling.values, path: value})) for value in values]
    return calls[:_MOST_CALLS]


def _call(tool: Tool, filling: Filling) -> Call:
    return Call(tool.name, json.dumps(arguments(tool, filling), ensure_ascii=False))


def _is_handoff(call: Done) -> bool:
    if call.name.startswith("transfer_to_"):
        return True
    return re.fullmatch(r'\s*\{\s*"assistant"\s*:\s*"[^"]*"\s*\}\s*', call.output) is not None


def _results(done: Sequence[Done]) -> list[str]:
    """A sentence for each output; where several calls of one tool ran, each says which one it is."""
    said: list[str] = []
    for call in done:
        sentence = wording.result(call.name, call.arguments, call.output)
        if sum(other.name == call.name for other in done) > 1:
            others = [o.arguments for o in done if o is not call and o.name == call.name]
            telling = [
                v for k, v in call.arguments.items() if isinstance(v, str | int) and any(a.get(k) != v for a in others)
            ]
            if telling and str(telling[0]).lower() not in sentence.lower():
                sentence = f"{telling[0]}: {sentence}"
        said.append(sentence)
    return said
