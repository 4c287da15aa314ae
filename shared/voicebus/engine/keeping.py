"""What a session's next owner needs, should this one die: written as fields of the session's state, as they change.

One field per item of the history, so that a long conversation costs no more than a short one, and one, `work`, with
what is going on: bounded, without audio, without anything secret. `restoring.py` makes a session of it again.

Version 1 of `work`: `v`, `owes` (an answer is owed), `open` (the response that runs: id, agent), `first` (the agent has
the initial settings), `lines` (what is said and not recorded yet), `calls` and `batches` (calls without an answer, and
what is to be asked after them), `said` (what the user has typed and the model has not confirmed), `commits` (items of
the user's speech that their client says again, so that no answer is owed to them), `turns` (those that it may say
again, with the ms of their sound) and `owes_beside` (an answer is owed even if it does).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from voicebus.engine.calls import Call, Stage
from voicebus.engine.config import AgentSpec, HostedToolSpec, ToolSpec
from voicebus.engine.outputs import Keep
from voicebus.engine.parts import Parts
from voicebus.utf8 import encoded

VERSION: Final = 1
ITEM: Final = "item:"
"""Before an item's id, in the name of its field. An empty field is an item that is gone."""

WORK: Final = "work"
TOLD: Final = "told_ms"
BEHIND: Final = "behind"
"""In an item's field: the id of the item before it, None for the first."""

# While an answer is being said, its text so far is written so often (s).
_SAYING_S: Final = 1.0
# Of what the user has typed and the model has not confirmed, in characters: as much as may wait for a socket.
_MAX_SAID: Final = 4 * 1024 * 1024

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.decode


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of a session: `items` in order, `work`, and what its records tell.

    `seq` is the last recorded one, `elapsed_s` how long ago the session began, `epoch` the new owner's. `recorded` are
    the items that have been recorded, each with what of it was heard where that is less than all. `calls` are the
    latest events about calls, oldest first, and `agents` those that calls without an answer were made for, by name. Of
    a version that is not known here `work` is empty. `told_ms` is when (ms of the call) this was last written. `again`
    are the turns that its client says again.
    """

    seq: int
    epoch: int
    elapsed_s: float
    items: Sequence[dict[str, Any]]
    work: Mapping[str, Any]
    recorded: Mapping[str, str | None]
    calls: Sequence[Mapping[str, Any]]
    agents: Mapping[str, AgentSpec] = field(default_factory=dict)
    told_ms: int | None = None
    again: frozenset[str] = frozenset()


def read_work(text: str) -> Mapping[str, Any]:
    """What the field `work` tells; nothing where it is of another version."""
    work: Mapping[str, Any] = _decode(text) if text else {}
    return work if work.get("v") == VERSION else {}


def read_items(fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """The history in order, from the fields of the state."""
    kept = {name.removeprefix(ITEM): _decode(text) for name, text in fields.items() if name.startswith(ITEM) and text}
    following = {item.pop(BEHIND): item_id for item_id, item in kept.items()}
    items: list[dict[str, Any]] = []
    previous: str | None = None
    while (item_id := following.pop(previous, None)) is not None:
        items.append(kept.pop(item_id))
        previous = item_id
    return [*items, *kept.values()]


class Keeper:
    """Writes down what has changed. Call `settle` after each input."""

    def __init__(self, parts: Parts, kept: Kept | None = None) -> None:
        self._p = parts
        self._is_first = kept is None or bool(kept.work.get("first"))
        self._work: dict[str, Any] = {}
        self._said_at = 0.0
        # What stands in `work` as `said`, each with its JSON: it may be long, and stands there in several.
        self._said: list[tuple[Mapping[str, Any], msgspec.Raw]] = []

    def said_on(self) -> None:
        """After an input that only said more of an answer, whose text is written now and then."""
        if self._p.out.now >= self._said_at + _SAYING_S and (item_id := self._p.history.saying) is not None:
            self._said_at = self._p.out.now
            self._keep({ITEM + item_id: self._item(item_id)})

    def settle(self) -> None:
        """After any other input."""
        p = self._p
        fields = {ITEM + item_id: self._item(item_id) for item_id in p.history.take_changed()}
        work = self._going_on()
        if work != self._work:
            self._work = work
            fields[WORK] = encoded(_encode, work).decode()
        if fields:
            self._said_at = p.out.now
            self._keep(fields)

    def _keep(self, fields: dict[str, str]) -> None:
        self._p.out.add(Keep({**fields, TOLD: str(self._p.out.ms())}))

    def _item(self, item_id: str) -> str:
        item = self._p.history.item(item_id)
        return "" if item is None else encoded(_encode, {BEHIND: self._p.history.before(item_id), **item}).decode()

    def _going_on(self) -> dict[str, Any]:
        p = self._p
        active = p.turns.responses.active
        work: dict[str, Any] = {
            "v": VERSION,
            "first": self._is_first and p.settings.agent.snapshot <= 1,
            "owes": self._owes(),
        }
        if active is not None:
            work["open"] = [active.model_id or active.id, active.agent.name]
        if lines := p.transcript.open_lines():
            work["lines"] = lines
        if any(True for _ in p.calls) or p.calls.batches.is_any_open:
            work["calls"] = [_row(call) for call in p.calls if not isinstance(call.spec, HostedToolSpec)]
            work["batches"] = p.calls.batches.kept()
        if commits := p.commits.items:
            work["commits"] = commits
        if turns := p.detected.turns:
            work["turns"], work["owes_beside"] = turns, self._owes(beside_turns=True)
        if said := self._encoded(p.out.uplink.said()):
            work["said"] = said
        return work

    def _encoded(self, said: Sequence[Mapping[str, Any]]) -> list[msgspec.Raw]:
        known = {id(event): (event, text) for event, text in self._said}
        self._said = [known.get(id(event)) or (event, msgspec.Raw(encoded(_encode, event))) for event in said]
        texts = [text for _, text in self._said]
        return texts if sum(memoryview(text).nbytes for text in texts) <= _MAX_SAID else []

    def _owes(self, *, beside_turns: bool = False) -> bool:
        """Whether the user is to get an answer that would be missing if everything ended now (as in `recovery.py`);
        `beside_turns`: that is no answer to what its client may say again.
        """
        turns, active, commits = self._p.turns, self._p.turns.responses.active, self._p.commits
        if (turns.awaited and not beside_turns) or turns.is_asked_beside(commits.asks) or self._p.background.is_due:
            return True
        if beside_turns and active is not None and self._p.detected.is_answer(active):
            return False
        if active is None or active.cancelling or active.interlude_in is not None or active.client_calls:
            return False
        if self._p.calls.batches.has(active) or commits.asks(active.create):
            return False
        is_stopped = active.muted and active not in self._p.holding.waiting()
        return not is_stopped and not self._p.unfinished.is_whole(active)


def _row(call: Call) -> list[Any]:
    made_in = call.response
    row = [call.id, call.item_id, call.name, made_in.id, made_in.agent.name]
    queue = call.spec.queue if isinstance(call.spec, ToolSpec) and not call.spec.local else None
    return [*row, call.stage.value, call.approved, call.started_ms, queue]


def running_calls(work: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The calls that workers run, by id, each with its queue."""
    running = Stage.RUNNING.value
    return [(row[0], row[8]) for row in work.get("calls", ()) if row[5] == running and row[8] is not None]


def stage_of(name: str) -> Stage | None:
    """The stage of this name; None for one that is not known here."""
    return next((stage for stage in Stage if stage.value == name), None)
