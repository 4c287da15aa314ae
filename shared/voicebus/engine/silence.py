"""When it is quiet: no response runs or is asked for, nobody speaks, and what was said has been heard."""

from voicebus.engine.outbox import Outbox
from voicebus.engine.playback import PlaybackTracker
from voicebus.engine.turns import Turns


class Silence:
    """Since when it is quiet. Looked at after each input by whoever waits for it."""

    def __init__(self, out: Outbox, turns: Turns, playback: PlaybackTracker) -> None:
        self._out = out
        self._turns = turns
        self._playback = playback
        self._since: float | None = None

    def since(self) -> float | None:
        """The moment (s), which lies ahead while something is being played to its end; None where it is not quiet, or
        nobody is there to hear it.
        """
        if not self._turns.is_free or self._playback.is_away:
            self._since = None
            return None
        if self._since is None:
            self._since = self._out.now
        return max(self._since, self._playback.silent_from(self._out.now))

    def broken(self) -> None:
        """Something is about to be said."""
        self._since = None
