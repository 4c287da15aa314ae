"""Which sessions of a gateway are recorded, and what their recorders are told."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.adapters.recordings.recorder import Recordings, SessionRecorder
from voicebus.adapters.recordings.storage import RecordingStorage
from voicebus.contracts.envelope import Message
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus.engine.outputs import ForwardAudio
from voicebus.ports import Clock
from voicebus.runtime.frames import AudioDelta
from voicebus.runtime.placing import Placing
from voicebus.runtime.surroundings import ClientFace
from voicebus_services.gateway.held import Held

CONSENT: Final = "consent"
"""The field of a session's state that tells the next owner whether it may be recorded: "1" or "0"."""

_FORMATS: Final = frozenset({"session.created", "session.updated"})


class Recording:
    """Makes the recorders of sessions. `assumed`: a caller who has said nothing agrees to be recorded; `allows`:
    whether a tenant has its calls recorded at all.
    """

    def __init__(
        self, storage: RecordingStorage, clock: Clock, *, assumed: bool, allows: Callable[[str], bool]
    ) -> None:
        self.allows = allows
        self._recordings = Recordings(storage, clock)
        self._assumed = assumed

    async def aclose(self, timeout_s: float) -> None:
        """Finish what is being written, within `timeout_s`."""
        await self._recordings.aclose(timeout_s)

    def recorder(self, held: Held, placing: Placing, *, epoch: int) -> SessionRecorder:
        """Of a session that begins now, or goes on; `placing` is its own."""
        recorder = SessionRecorder(self._recordings, placing, tenant=held.tenant, session=held.id, epoch=epoch)
        kept = None if held.inherited is None else held.inherited.left.state.get(CONSENT)
        given = held.face.consent if kept is None else kept == "1"
        recorder.consent(self._assumed if given is None else given)
        return recorder

    def listening(
        self, face: ClientFace, recorder: SessionRecorder, formats: Callable[[], Mapping[str, Any]]
    ) -> ClientFace:
        """What stands before `face`, so that the recorder hears what it is to hear."""
        return RecordingFace(face, recorder, formats)


class RecordingFace:
    """Stands before a client's face and has what it is to hear recorded. Implements `ClientFace`.

    `formats` tells the session's formats of audio.
    """

    def __init__(self, face: ClientFace, recorder: SessionRecorder, formats: Callable[[], Mapping[str, Any]]) -> None:
        self._face = face
        self._recorder = recorder
        self._formats = formats
        recorder.formats(formats())
        self.ready = face.ready
        self.emit = face.emit
        self.close = face.close

    def record(self, seq: int, kind: EventType, at_ms: int, data: Message) -> None:
        self._face.record(seq, kind, at_ms, data)
        if isinstance(data, SessionEnded):
            self._recorder.end(data.duration_ms)

    def server_event(self, event: Mapping[str, Any]) -> None:
        if event["type"] in _FORMATS:
            self._recorder.formats(self._formats())
        self._face.server_event(event)

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None:
        self._recorder.say(where, delta)
        self._face.audio(where, delta, seq)
