"""The sessions of one simulator: opens them, finds them for a sideband, and keeps the ledgers of those that ended."""

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from voicebus_services.model_simulator.imitation import Imitation, Utterances
from voicebus_services.model_simulator.live import LiveSession
from voicebus_services.model_simulator.pacing import Burst, FrameDelay, Pace, RealTime, StepGate
from voicebus_services.model_simulator.protocol.ids import Ids
from voicebus_services.model_simulator.protocol.quirks import Quirks
from voicebus_services.model_simulator.protocol.session import SimulatedSession

JsonObject = dict[str, Any]

_LEDGERS_KEPT = 1000


class Hub:
    """Opens sessions. Ids and answers repeat under the same seed as long as clients connect in the same order."""

    def __init__(self, imitation: Imitation, *, seed: int, pace: float | None, lifetime: float, quirks: Quirks) -> None:
        self._imitation = imitation
        self._utterances = Utterances(imitation.voice)
        self._seed = seed
        self._pace = pace
        self._lifetime = lifetime
        self._quirks = quirks
        self._numbers = itertools.count()
        self._stray = Ids(seed, -1)
        self._ledgers: OrderedDict[str, JsonObject] = OrderedDict()
        self.gate = StepGate()
        self.sessions: dict[str, LiveSession] = {}

    @contextmanager
    def session(
        self,
        group: asyncio.TaskGroup,
        session_type: str,
        model: str | None,
        config: JsonObject | None = None,
        *,
        call_id: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> Iterator[LiveSession]:
        """A session for as long as the block runs.

        Args:
            config: a checked update that is in force from the start.
            call_id: the call this is, by which sidebands find it; otherwise they find it by the session's id.
            on_close: called when the session closes itself, as it does when it expires.
        """
        session = SimulatedSession(
            ids=Ids(self._seed, next(self._numbers), counted=self._quirks.counted_ids),
            clock=time.time,
            detector=self._imitation.detector,
            session_type=session_type,
            model=model,
            lifetime=self._lifetime,
            quirks=self._quirks,
            config=config,
            is_call=call_id is not None,
        )
        live = LiveSession(
            session,
            self._imitation,
            self._utterances,
            self._pacing(),
            group,
            frame_delay=FrameDelay(self._seed, *self._quirks.frame_delay_ms),
            reordered=self._quirks.reordered,
            media_elsewhere=call_id is not None,
            on_close=on_close,
        )
        name = call_id or session.id
        self.sessions[name] = live
        started = time.time()
        self._ledgers[session.id] = entry = {
            "session": session.id,
            "call_id": call_id,
            "model": model,
            "started_at": round(started, 3),
            "ended_at": None,
            "lines": session.ledger.lines,
        }
        while len(self._ledgers) > _LEDGERS_KEPT:
            self._ledgers.popitem(last=False)
        live.flush()
        try:
            yield live
        finally:
            entry["ended_at"] = round(time.time(), 3)
            del self.sessions[name]
            live.stop()

    def stray_event_id(self) -> str:
        """The id of an event outside every session."""
        return self._stray.event()

    def ledger(self) -> list[JsonObject]:
        """What the last 1000 sessions truly said and heard, oldest first."""
        return list(self._ledgers.values())

    def _pacing(self) -> Callable[[], Pace]:
        pace = self._pace
        if pace is None:
            return lambda: self.gate
        return Burst if pace == 0 else lambda: RealTime(pace)
