"""What the speaker of a session that another gateway has left is to say again, as nobody but its client has the sound.

Such turns are taken out of the history, for their client to make them anew. Another client may come instead, or the
same one without its sound: what nobody says again is told to the model then, as every turn whose words are not known.
Until one or the other has come about it stands in the session's state, for an owner after this one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from voicebus.engine.keeping import Kept
from voicebus.engine.transcript import NOT_TRANSCRIBED
from voicebus.runtime import frames
from voicebus_services.gateway.faces import native_commands as commands

_WORDLESS: Final = {"type": "input_text", "text": NOT_TRANSCRIBED}


UNSAID: Final = "unsaid"
"""The field of the state: `turns` that were detected, each with its ms of sound, and how many `commits`; else empty."""


class SaidAgain:
    """`turns` is what each speaker is told that it is to say again. `changed` is called as less is left of it."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.turns: Sequence[str] = ()
        self._changed = changed
        # Turns that are out of the history: those that the model had detected, with their sound (ms), and how many were
        # ended by hand.
        self._detected: list[tuple[str, int]] = []
        self._committed = 0

    def expect(self, turns: Sequence[str], kept: Kept, unsaid: str) -> None:
        """`kept`: what the session goes on from; `unsaid`: what was `left` with its former owner."""
        before: Mapping[str, Any] = json.loads(unsaid) if unsaid else {"turns": (), "commits": 0}
        self.turns = turns
        left_out = [(item_id, ms) for item_id, ms in kept.work.get("turns", ()) if item_id in kept.again]
        self._detected = [*before["turns"], *left_out]
        self._committed = before["commits"] + len(kept.work.get("commits", ()))

    @property
    def left(self) -> str:
        """What nobody has said yet, as the field `UNSAID`."""
        if not (self._detected or self._committed):
            return ""
        return json.dumps({"turns": self._detected, "commits": self._committed})

    def told_instead(self, held_ms: int, binary: bool, message: bytes) -> bytes | None:
        """A speaker whose client came with `held_ms` of sound says this: the command that has to go before it, if any.

        Who holds as much as the detected turns are says them. Clients need not tell what they hold of turns that they
        have ended by hand: whether these come again is known by the next commit, or by the message that comes instead.
        """
        if not (self._detected or self._committed):
            return None
        lost, left = 0, (len(self._detected), self._committed)
        if self._detected:
            lost += len(self._detected) if held_ms < sum(ms for _, ms in self._detected) else 0
            self._detected = []
        if self._committed and not binary and (again := _commits_again(message)) is not None:
            lost += 0 if again else self._committed
            self._committed = 0
        if left != (0, self._committed):
            self._changed()
        return frames.dump_event({"type": "send_message", "content": [_WORDLESS] * lost}) if lost else None


def _commits_again(message: bytes) -> bool | None:
    """Whether this is the commit of before; None where it tells nothing of that."""
    try:
        command = commands.read_command(message)
    except commands.CommandError:
        return None
    if isinstance(command, commands.Commit):
        return command.again
    return False if isinstance(command, commands.SendMessage) and not command.again else None
