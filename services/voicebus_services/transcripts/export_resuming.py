"""An export that goes on where it broke off: JSON lines in FILE.part, and beside it in FILE.part.at how far they are.

After each page that ends with a session the lines are on the disk before it is written down that they are, so what is
behind that place is cut off by whoever goes on.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from voicebus.adapters.database.finding import Position
from voicebus.errors import UsageError, VoicebusError
from voicebus_services.transcripts.export_files import STDOUT, Format, JsonLines


@dataclass(frozen=True)
class Reached:
    """How far an export is: behind which session, after how many rows and sessions, in how many bytes."""

    started_at: int
    session: str
    rows: int
    sessions: int
    size: int


class Resuming:
    """Writes rows behind those that are there. `reached` is None where there are none."""

    def __init__(self, file: IO[bytes], beside: Path, choices: Mapping[str, Any], reached: Reached | None) -> None:
        self.reached = reached
        self._file = file
        self._beside = beside
        self._choices = dict(choices)
        self._lines = JsonLines(file)

    @property
    def after(self) -> Position | None:
        """Where the archive is to be read on."""
        return None if self.reached is None else Position(self.reached.started_at, self.reached.session)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._lines.write(rows)

    def keep(self, place: Position, *, rows: int, sessions: int) -> None:
        """All that was written so far is worth going on from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.reached = Reached(place.started_at, place.session, rows, sessions, self._file.tell())
        text = json.dumps({"choices": self._choices, "reached": asdict(self.reached)})
        made = self._beside.with_suffix(".new")
        made.touch(mode=0o600)
        made.write_text(text, encoding="utf-8")
        made.replace(self._beside)


@contextmanager
def resumed(path: str, form: Format, choices: Mapping[str, Any], *, replace: bool) -> Iterator[Resuming]:
    """A writer to FILE.part, which becomes the file once the block has ended well; else it stays, to go on from.

    Raises:
        UsageError: there is such a file already, it is none that can be gone on with, or what is there was begun with
            other `choices`.
        VoicebusError: it cannot be written, as on a full disk.
    """
    if path == STDOUT or form != "jsonl":
        raise UsageError(f"--resume: {path!r} was read; only files of JSON lines can be gone on with")
    target = Path(path)
    part, beside = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.at")
    if target.exists() and not replace:
        raise UsageError(f"FILE: {path!r} is there already; choose another name, or give --force to replace it")
    reached = _reached(part, beside, choices)
    try:
        # For the eyes of its owner alone: it holds what people said, whoever has put something in its place.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise UsageError(f"FILE: {path!r} cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(0 if reached is None else reached.size)
            file.seek(0, os.SEEK_END)
            yield Resuming(file, beside, choices, reached)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        beside.unlink(missing_ok=True)
    except OSError as error:
        raise VoicebusError(f"{path} cannot be written ({error.strerror or error})") from error


def _reached(part: Path, beside: Path, choices: Mapping[str, Any]) -> Reached | None:
    if not (part.exists() and beside.exists()):
        return None
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        before, reached = told["choices"], Reached(**told["reached"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--resume: {str(beside)!r} does not say how far {part.name} is; remove both") from error
    other = sorted(name for name in {*before, *choices} if before.get(name) != choices.get(name))
    if other:
        raise UsageError(
            f"--resume: {str(part)!r} was begun with another {', '.join(other)}; give the same, or remove it"
        )
    if part.stat().st_size < reached.size:
        raise UsageError(f"--resume: {str(part)!r} is shorter than it was; remove it and {beside.name}")
    return reached
