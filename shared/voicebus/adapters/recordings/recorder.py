"""Records calls while they last: their sound in, parts in object storage out, one behind the other.

The session brings sound on the event loop, which costs it a list entry; every `PART_S` a task of the recording has a
thread encode what has settled, and stores it as the next part. So whatever happens to this process, all is kept but the
last few seconds. A session never waits for its recording, and goes on where that fails.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from voicebus.adapters.recordings.encoding import StereoEncoder, stitch
from voicebus.adapters.recordings.storage import RecordingStorage, Stored, segment_folder
from voicebus.adapters.recordings.timeline import LAG, AgentTrack, CallerTrack, Piece
from voicebus.engine.outputs import ForwardAudio
from voicebus.errors import StoreError
from voicebus.ports import Clock
from voicebus.runtime.frames import AudioDelta
from voicebus.runtime.placing import PCM, RATE, Frame, Placing
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

PART_S: Final = 1.0
# Encoded sound that waits for a storage that does not answer: about half an hour of speech. Then it is given up.
_MAX_WAITING: Final = 16 * 1024 * 1024
_LAST_PART_S: Final = 30.0
_THREADS: Final = 4


class Recordings:
    """The recordings that this process makes. `aclose` waits for those that are being finished."""

    def __init__(self, storage: RecordingStorage, clock: Clock) -> None:
        self.storage = storage
        self.clock = clock
        self.threads: ThreadPoolExecutor = ThreadPoolExecutor(_THREADS, thread_name_prefix="recording")
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside everything else, also after its session."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self, timeout_s: float) -> None:
        """Finish what is under way, within `timeout_s`; what is left keeps the parts that it has."""
        until = asyncio.get_running_loop().time() + timeout_s
        while self._tasks and (left_s := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        left = list(self._tasks)
        for task in left:
            log.warning("a recording could not be finished in time; its parts are kept", recording=task.get_name())
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.threads.shutdown(wait=False, cancel_futures=True)


class SessionRecorder:
    """Records one session while it may: each time anew, a segment. Implements `CallRecorder`.

    `placing` is that of the session: the recording's positions are those of its transcript.
    """

    def __init__(self, recordings: Recordings, placing: Placing, *, tenant: str, session: str, epoch: int) -> None:
        self._recordings = recordings
        self._tenant, self._session, self._epoch = tenant, session, epoch
        self._now = recordings.clock.monotonic
        self._placing = placing
        self._segment: _Segment | None = None
        self._writing: list[asyncio.Task[None]] = []
        self._held = False
        self._output = PCM
        self._over = False

    @property
    def records(self) -> bool:
        """Whether what is said now is recorded."""
        return self._segment is not None

    def formats(self, audio: Mapping[str, Any]) -> None:
        """The session's formats are these from now on: `{"input": FORMAT, "output": FORMAT}`."""
        self._output = str(audio["output"].get("type", PCM))

    def start(self) -> None:
        """Record from now on; nothing where that is done already, or the session is over."""
        if self._segment is not None or self._over:
            return
        begins = self._ticks()
        place = segment_folder(self._tenant, self._session, self._epoch, begins * 1000 // RATE)
        self._segment = segment = _Segment(place, begins, self._recordings, self._placing)
        if self._held:
            segment.agent.hold(begins)
        self._writing.append(self._recordings.keep(f"recording-{self._session}", segment.run()))
        metrics.RECORDINGS_ACTIVE.inc()

    def stop(self) -> None:
        """Record nothing of what is said from now on."""
        self._stop(self._ticks())

    def consent(self, given: bool) -> None:
        """The caller agrees to be recorded, or does not (any more): what is said while they do not is not kept."""
        if given:
            self.start()
        else:
            self.stop()

    def leave(self) -> None:
        """Another process goes on with the session, and with its recording."""
        self._over = True
        self.stop()

    def end(self, at_ms: int) -> None:
        """The session ended at this moment of its own: put the recording together."""
        self._over = True
        self._stop(at_ms * RATE // 1000)
        if self._writing:
            self._recordings.keep(f"complete-{self._session}", self._complete())

    # --- CallRecorder ---------------------------------------------------------------------------------

    def hear(self, frame: Frame) -> None:
        if self._segment is not None:
            self._segment.caller.hear(frame)

    def say(self, where: ForwardAudio, delta: AudioDelta) -> None:
        if self._segment is not None:
            now = self._ticks()
            self._segment.agent.say(where.item_id, where.content_index, self._output, delta.samples, now)

    def cut(self, item_id: str, content_index: int, heard_ms: float) -> None:
        if self._segment is not None:
            self._segment.agent.cut(item_id, content_index, heard_ms)

    def hold(self, held: bool) -> None:
        self._held = held
        if self._segment is not None:
            now = self._ticks()
            (self._segment.agent.hold if held else self._segment.agent.go_on)(now)

    # --- the rest -------------------------------------------------------------------------------------

    def _ticks(self) -> int:
        """Now, on the call's clock."""
        return self._placing.ticks(self._now())

    def _stop(self, at: int) -> None:
        if self._segment is not None:
            self._segment.end(at)
            self._segment = None
            metrics.RECORDINGS_ACTIVE.dec()

    async def _complete(self) -> None:
        await asyncio.wait(self._writing)
        storage = self._recordings.storage
        try:
            stored = await storage.find(self._tenant, self._session)
            if stored.segments:
                whole = await assembled(storage, stored, self._recordings.threads)
                await storage.complete(self._tenant, self._session, stored, whole)
        except (StoreError, FileNotFoundError) as error:
            metrics.RECORDING_FAILURES.labels(step="complete").inc()
            log.warning("a recording stays in parts", session=self._session, error=str(error))


class _Segment:
    """One stretch of a recording, from `begins` (ticks) until `end` is called."""

    def __init__(self, place: str, begins: int, recordings: Recordings, placing: Placing) -> None:
        self.caller = CallerTrack(placing, begins)
        self.agent = AgentTrack(begins)
        self._place = place
        self._recordings = recordings
        self._placing = placing
        self._encoder: StereoEncoder | None = None
        self._waiting = b""
        self._parts = 0
        self._ends: int | None = None
        self._ended = asyncio.Event()

    def end(self, at: int) -> None:
        """The recording ends at this moment; what was to be heard later never was."""
        self._ends = at
        self._ended.set()

    async def run(self) -> None:
        """Write part after part until the end."""
        try:
            while not self._ended.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(PART_S):
                        await self._ended.wait()
                if not self._ended.is_set():
                    await self._write(self._placing.ticks(self._recordings.clock.monotonic()) - LAG)
            await self._write(self._ends or 0, last=True)
        except StoreError as error:
            self._failed(error)
        except Exception as error:  # a recording must not end the process that it is a part of
            self._failed(error)
            log.exception("recording failed", recording=self._place)
        dropped = self.caller.dropped + self.agent.dropped
        if dropped:
            log.warning("sound is missing in a recording: it came too fast", s=dropped / RATE, recording=self._place)

    def _failed(self, error: Exception) -> None:
        metrics.RECORDING_FAILURES.labels(step="write").inc()
        log.warning("a recording is given up", recording=self._place, error=str(error))
        self.caller, self.agent = CallerTrack(self._placing), AgentTrack()

    async def _write(self, upto: int, *, last: bool = False) -> None:
        """Encode what lies before `upto`, and store it.

        Raises:
            StoreError: the storage has not answered for so long that too much waits, or at the end.
        """
        caller, agent = list(self.caller.take(upto)), list(self.agent.take(upto))
        loop = asyncio.get_running_loop()
        self._waiting += await loop.run_in_executor(self._recordings.threads, self._encode, caller, agent, last)
        metrics.RECORDED_SECONDS.inc(sum(piece.ticks for piece in agent) / RATE)
        until = loop.time() + (_LAST_PART_S if last else 0)
        while self._waiting:
            try:
                await self._recordings.storage.put(f"{self._place}/{self._parts:08d}", self._waiting)
            except StoreError:
                if len(self._waiting) > _MAX_WAITING or (last and loop.time() >= until):
                    raise
                if not last:
                    return  # with the next part
                await asyncio.sleep(PART_S)
            else:
                self._parts += 1
                self._waiting = b""

    def _encode(self, caller: list[Piece], agent: list[Piece], last: bool) -> bytes:
        if self._encoder is None:
            self._encoder = StereoEncoder()
        data = self._encoder.write(caller, agent)
        return data + self._encoder.close() if last else data


async def assembled(storage: RecordingStorage, stored: Stored, threads: ThreadPoolExecutor) -> bytes:
    """The whole of what is stored in segments.

    Raises:
        FileNotFoundError: a part has been deleted meanwhile: look again.
    """
    segments = [
        (segment.begins_ms, b"".join([await storage.read(part.path) for part in segment.parts]))
        for segment in stored.segments
    ]
    if stored.pieces is not None:
        return segments[0][1]
    return await asyncio.get_running_loop().run_in_executor(threads, stitch, segments)
