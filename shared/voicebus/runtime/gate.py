"""Whether what nothing is to be decided about may pass a session's inputs by: while the gate is open, and nobody is in
it or waits before it.
"""

from collections import deque

from voicebus.engine.inputs import Input
from voicebus.runtime.frames import AudioDelta


class Gate:
    """`inputs` are those that wait for their turn, each with its samples and size. Read with every frame."""

    __slots__ = ("busy", "ended", "inputs", "open")

    def __init__(self) -> None:
        self.inputs: deque[tuple[Input, AudioDelta | None, int]] = deque()
        self.open: bool = False
        """Whether the client may be heard: the session is configured."""
        self.busy: bool = False
        """Whether an input is being handled, or what came of one performed."""
        self.ended: bool = False
