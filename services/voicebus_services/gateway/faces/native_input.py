"""What the speaker of a session says on the native face: commands and samples, carried out in order."""

import asyncio
import itertools
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import pybase64

from voicebus.contracts.journal import DecidedBy
from voicebus.engine import inputs
from voicebus.errors import CommandRefusedError
from voicebus.runtime import frames
from voicebus_services.gateway.faces import native_commands as commands
from voicebus_services.gateway.faces.base import early_audio_dropped
from voicebus_services.gateway.faces.early import AUDIO_KEPT_S, EarlyFrames
from voicebus_services.gateway.faces.input_audio import AUDIO_BURST_S, AudioError, InputAudio
from voicebus_services.gateway.faces.native_connection import NativeConnection

if TYPE_CHECKING:
    from voicebus_services.gateway.faces.native import NativeFace


# What a client that was lost may send again: few commands are without an answer at once.
_REMEMBERED: Final = 1_000
_MAX_ID: Final = 256
# Of those, what the next owner is to know as well.
_KEPT: Final = 16
_LASTING: Final = (commands.SendMessage, commands.Decision)


class NativeInput:
    """Belongs to the session, not to a connection: what was said before a loss is carried out all the same."""

    def __init__(self, face: "NativeFace") -> None:
        self._face = face
        self._early: EarlyFrames | None = EarlyFrames()
        self._paused: NativeConnection | None = None
        self.muted = False
        # Ids of commands that were carried out, the newest ones.
        self._done: OrderedDict[str, None] = OrderedDict()
        self._commits = 0
        # Ids of commands whose answer is still to come: commits that are not safe yet, and changes of the agent.
        self._unanswered: dict[str, None] = {}
        self.audio = InputAudio(face.audio_speed)

    def expect(self, seconds: float) -> None:
        """So much sound comes at once, all of which is worth hearing."""
        if self._early is not None:
            self._early.kept_s = max(AUDIO_KEPT_S, min(seconds, AUDIO_BURST_S))

    def open(self) -> None:
        """The session is configured: what was said so far is carried out, and so from now on."""
        if self._early is None:
            return
        early = self._early
        spoken = early.take(byte_rate=self.audio.byte_rate)
        self._early = None
        if early.dropped:
            self._face.live().feed(early_audio_dropped(early, self.audio))
        for binary, message in spoken:
            self._handle(binary, message)
        if self._paused is not None:
            self._paused.resume_reading()

    def hear(self, connection: NativeConnection, binary: bool, message: bytes) -> None:
        if self._early is None:
            self._handle(binary, message)
            return
        self._early.add(binary, message, samples=_audio_bytes(binary, message), byte_rate=self.audio.byte_rate)
        if self._early.is_full and self._paused is not connection:
            self._paused = connection
            connection.pause_reading()

    def _handle(self, binary: bool, message: bytes) -> None:
        if binary:
            self._samples(message)
        else:
            self._command(message)

    def _samples(self, message: bytes) -> None:
        try:
            self.audio.check_samples(len(message))
        except AudioError as error:
            self._error(None, error.code, str(error))
            return
        if message and not self.muted:
            self._face.live().send_audio(frames.append_frame(pybase64.b64encode_as_string(message)))

    def _command(self, message: bytes) -> None:
        try:
            command = commands.read_command(message)
        except commands.CommandError as error:
            self._error(error.id, error.code, str(error))
            return
        self._face.commands += not isinstance(command, commands.Audio)
        if command.again and command.id in self._done:
            self._face.live().once_written(partial(self._acknowledge, command.id))
            return
        if command.again and command.id in self._unanswered:
            return  # its answer is still to come
        held = self._face.hold() if command.id is not None and isinstance(command, _LASTING) else None
        try:
            done = self._perform(command)
        except (AudioError, CommandRefusedError) as error:
            self._error(command.id, error.code, str(error), held)
        except ValueError as error:
            self._error(command.id, "invalid_value", str(error), held)
        else:
            if done:
                self._carried_out(command.id, held, lasts=isinstance(command, _LASTING))

    def come_too_late(self, binary: bool, message: bytes) -> None:
        """The session has ended, which its client does not know yet: a command is not carried out, and hears so."""
        if binary or len(self._unanswered) >= _REMEMBERED:
            return
        try:
            command = commands.read_command(message)
        except commands.CommandError as error:
            self._error(error.id, error.code, str(error))
            return
        if command.id is not None and command.id not in self._done and not self._face.ending.was_asked(command.id):
            self._unanswered[command.id] = None

    def give_up(self) -> None:
        """The session has ended: what has had no answer by now was not carried out."""
        unanswered, self._unanswered = self._unanswered, {}
        for given in unanswered:
            self._error(given, "session_ended", "the session ended meanwhile")

    def inherit(self, *, muted: bool, done: Sequence[str]) -> None:
        """What another gateway has kept of what the speaker said: whether it is muted, and what was carried out."""
        self.muted = muted
        self._done.update(dict.fromkeys(done))

    def _carried_out(self, id: str | None, held: NativeConnection | None, *, lasts: bool) -> None:  # noqa: A002 - the wire's name
        """`lasts`: it must not be carried out again, whoever owns the session then, and is acknowledged once that is
        written. An owner that dies before leaves it to be sent again.
        """
        if id is None:
            return
        self._done[id[:_MAX_ID]] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        driver = self._face.driver
        if lasts and driver is not None:
            newest = list(itertools.islice(reversed(self._done), _KEPT))
            driver.note({"done": json.dumps(newest[::-1])})
            driver.once_written(partial(self._acknowledge, id, held))
        else:
            self._acknowledge(id)

    def _acknowledge(self, id: str | None, held: NativeConnection | None = None) -> None:  # noqa: A002 - the wire's name
        if id is not None:
            self._face.answer_held(held, "ack", id=id)

    def _error(
        self,
        id: str | None,  # noqa: A002 - the wire's name
        code: str,
        message: str,
        held: NativeConnection | None = None,
    ) -> None:
        self._face.answer_held(held, "error", id=id, code=code, message=message)

    def _perform(self, command: commands.Command) -> bool:
        """Carry out one command; False where its answer is given elsewhere."""
        driver = self._face.live()
        match command:
            case commands.Audio():
                self.audio.check_samples(frames.size_of(command.data))
                if command.data and not self.muted:
                    driver.send_audio(frames.append_frame(command.data))
            case commands.SendMessage():
                driver.feed(inputs.SendMessage(command.parts()))
            case commands.Commit(id=str(given)):
                self._commit(given)
                return False
            case commands.Commit():
                driver.feed(inputs.CommitAudio())
            case commands.Interrupt():
                driver.feed(inputs.Interrupt())
            case commands.Playback():
                driver.feed(inputs.Playback(command.item_id, command.content_index, command.played_ms))
            case commands.Mute():
                self.muted = command.muted
                driver.note({"muted": str(int(command.muted))})
            case commands.Record():
                driver.consent(command.consent)
            case commands.UpdateAgent():
                if command.id is not None:
                    self._unanswered[command.id] = None
                driver.take_over(command.agent).add_done_callback(partial(self._taken_over, command.id))
                return False
            case commands.Approve():
                driver.decide(inputs.Approve(command.call_id, command.always, self._by))
            case commands.Reject():
                driver.decide(inputs.Reject(command.call_id, command.always, command.message, self._by))
            case commands.End():
                self._face.ending.asked(command.id)
                driver.feed(inputs.End("ended"))
                return False
        return True

    def _commit(self, given: str) -> None:
        """Acknowledged once the turn is safe: sound is not kept outside of this gateway, so that until then its client
        keeps it, and says it again to the session's next owner.
        """
        self._commits += 1
        self._unanswered[given] = None
        self._face.live().commit(str(self._commits), partial(self._committed, given))

    def _committed(self, given: str) -> None:
        self._unanswered.pop(given, None)
        self._carried_out(given, None, lasts=True)

    @property
    def _by(self) -> DecidedBy:
        """On whose behalf the speaker decides."""
        principal = self._face.principal
        return DecidedBy(via="client", tenant=principal.tenant, key_id=principal.key_id)

    def _taken_over(self, id: str | None, done: asyncio.Future[None]) -> None:  # noqa: A002 - the wire's name
        self._unanswered.pop(id or "", None)
        refused = done.exception()
        if isinstance(refused, CommandRefusedError):
            self._error(id, refused.code, str(refused))
        else:
            self._carried_out(id, None, lasts=True)


def _audio_bytes(binary: bool, message: bytes) -> int:
    """How many bytes of samples a frame brings, about; 0 where it is anything but audio."""
    if binary:
        return len(message)
    try:
        command = commands.read_command(message)
    except commands.CommandError:  # will be answered when its turn comes
        return 0
    return len(command.data) * 3 // 4 if isinstance(command, commands.Audio) else 0
