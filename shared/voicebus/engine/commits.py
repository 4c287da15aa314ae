"""Turns of speech that the client has ended by hand and may have to say again, should this owner die.

Sound is not kept outside of the owner, so that such a turn is safe only once its words are, or once its answer has had
an effect: until then whoever committed it keeps the sound, and the next owner lets it be said again. Each is told as
safe exactly once (`CommitSettled`), also where the model had nothing to commit, and where nothing shows in time that it
is: whoever committed it may be waiting for that.
"""

from dataclasses import dataclass
from typing import Final

from voicebus.engine.batches import Batches
from voicebus.engine.outbox import Outbox
from voicebus.engine.outputs import CommitSettled
from voicebus.engine.responses import Create, Response
from voicebus.engine.transcript import Transcript
from voicebus.engine.turns import Turns

COMMIT_TIMER: Final = "commit:"

# Turns that are not safe at once; beyond that the oldest counts as safe.
_MAX_OPEN: Final = 64
# How long one is followed (s): most transcripts come within it; who waits for an answer to a command gives up in two.
_LIMIT: Final = 1.0


@dataclass(slots=True, eq=False)
class _Commit:
    """`event_id` is the commit's, `given` the client's name for it, `item_id` what the model has made of it."""

    event_id: str
    given: str
    item_id: str = ""
    answer: Response | None = None


class Commits:
    """Follows commits that have a name. Call `settle` after each input."""

    def __init__(self, out: Outbox, turns: Turns, transcript: Transcript, batches: Batches) -> None:
        self._out = out
        self._turns = turns
        self._transcript = transcript
        self._batches = batches
        self._open: list[_Commit] = []

    @property
    def is_any_open(self) -> bool:
        return bool(self._open)

    @property
    def items(self) -> list[str]:
        """What the model has made of those that are not safe."""
        return [commit.item_id for commit in self._open if commit.item_id]

    def sent(self, event_id: str, given: str) -> None:
        """A commit goes to the model."""
        self._open.append(_Commit(event_id, given))
        self._out.set_timer(COMMIT_TIMER + event_id, _LIMIT)
        if len(self._open) > _MAX_OPEN:
            self._settle(self._open[0])

    def committed(self, item_id: str) -> None:
        """The model has carried out the oldest one."""
        commit = next((one for one in self._open if not one.item_id), None)
        if commit is not None:
            commit.item_id = item_id

    def refused(self, event_id: str) -> None:
        """The model, or the way to it, did not take it; `event_id` "" is the oldest one."""
        for commit in self._open:
            if not commit.item_id and event_id in ("", commit.event_id):
                self._settle(commit)
                return

    def overdue(self, event_id: str) -> None:
        """Nothing shows that it is safe."""
        for commit in self._open:
            if commit.event_id == event_id:
                self._settle(commit)
                return

    def asks(self, create: Create | None) -> bool:
        """Whether this create asks for nothing but the answer to one that is not safe."""
        return create is not None and any(commit.event_id == create.commit for commit in self._open)

    def settle(self) -> None:
        if not self._open:
            return
        for commit in [one for one in self._open if one.item_id]:
            if self._transcript.has_words(commit.item_id) or self._is_answered(commit):
                self._settle(commit)

    def _is_answered(self, commit: _Commit) -> bool:
        """Whether its answer has ended, or has done what must not be done again."""
        active = self._turns.responses.active
        if active is not None and active.create is not None and active.create.commit == commit.event_id:
            commit.answer = active
        if commit.answer is None:
            return False
        called = commit.answer.client_calls or self._batches.has(commit.answer)
        return called or commit.answer is not active

    def _settle(self, commit: _Commit) -> None:
        self._open.remove(commit)
        self._out.cancel_timer(COMMIT_TIMER + commit.event_id)
        self._out.add(CommitSettled(commit.given))
