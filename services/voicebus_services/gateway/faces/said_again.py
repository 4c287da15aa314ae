"""What the speaker of a session that another gateway has left is to say again, as nobody but its client has the sound.

Such turns are taken out of the history, for their client to make them anew. Another client may come instead, or the
same one without its sound: what nobody says again is told to the model then, as every turn whose words are not known.
"""

from collections.abc import Sequence
from typing import Final

from voicebus.engine.keeping import Kept
from voicebus.engine.transcript import NOT_TRANSCRIBED
from voicebus.runtime import frames
from voicebus_services.gateway.faces import native_commands as commands

_WORDLESS: Final = {"type": "input_text", "text": NOT_TRANSCRIBED}


class SaidAgain:
    """`turns` is what each speaker is told that it is to say again."""

    def __init__(self) -> None:
        self.turns: Sequence[str] = ()
        # Turns that are out of the history: those that the model had detected, and their sound; those ended by hand.
        self._detected = 0
        self._sound_ms = 0
        self._committed = 0

    def expect(self, turns: Sequence[str], kept: Kept) -> None:
        """`kept`: what the session goes on from."""
        self.turns = turns
        left_out = [ms for item_id, ms in kept.work.get("turns", ()) if item_id in kept.again]
        self._detected, self._sound_ms = len(left_out), sum(left_out)
        self._committed = len(kept.work.get("commits", ()))

    def told_instead(self, held_ms: int, binary: bool, message: bytes) -> bytes | None:
        """A speaker whose client came with `held_ms` of sound says this: the command that has to go before it, if any.

        Who holds as much as the detected turns are says them. Clients need not tell what they hold of turns that they
        have ended by hand: whether these come again is known by the next commit, or by the message that comes instead.
        """
        if not (self._detected or self._committed):
            return None
        lost = 0
        if self._detected:
            lost += self._detected if held_ms < self._sound_ms else 0
            self._detected = 0
        if self._committed and not binary and (again := _commits_again(message)) is not None:
            lost += 0 if again else self._committed
            self._committed = 0
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
