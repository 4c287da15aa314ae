"""The files of an export: JSON lines and Parquet, written beside and moved into place once they are whole."""

import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, Literal, get_args

import msgspec

from voicebus.adapters.database.exporting import Kind
from voicebus.errors import UsageError, VoicebusError

Format = Literal["jsonl", "parquet"]
STDOUT: Final = "-"
# One group of rows of a Parquet file; all of it is in memory until it is written.
_GROUP: Final = 20_000
# Of the file's name in that of the one beside it, which may not have many more than 255 bytes.
_NAME_CHARS: Final = 40
_FORMATS: Final[Sequence[Format]] = get_args(Format)
_encode: Final = msgspec.json.Encoder().encode


class RowWriter(ABC):
    """Writes rows to a file; `finish` writes what is left, `give_up` need not."""

    @abstractmethod
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def give_up(self) -> None: ...


class JsonLines(RowWriter):
    """Each row an object on a line of its own; times are RFC 3339, UTC."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(b"".join(_encode(row) + b"\n" for row in rows))

    def finish(self) -> None:
        self._file.flush()

    def give_up(self) -> None:
        """There is nothing to end."""


class Parquet(RowWriter):
    """Columns with the types that they have in the archive; JSON is text."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, Kind]) -> None:
        pyarrow, parquet = _pyarrow()
        types = {
            Kind.TEXT: pyarrow.string(),
            Kind.INTEGER: pyarrow.int64(),
            Kind.REAL: pyarrow.float64(),
            Kind.TRUTH: pyarrow.bool_(),
            Kind.TIME: pyarrow.timestamp("ms", tz="UTC"),
            Kind.JSON: pyarrow.string(),
        }
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._json = [name for name, kind in columns.items() if kind is Kind.JSON]
        self._rows: list[Mapping[str, Any]] = []
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows += [row | {name: _text(row[name]) for name in self._json} for row in map(dict, rows)]
        if len(self._rows) >= _GROUP:
            self._write()

    def finish(self) -> None:
        self._write()
        self._writer.close()

    def give_up(self) -> None:
        with suppress(OSError):
            self._writer.close()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_batch(self._pyarrow.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def format_of(path: str, given: Format | None) -> Format:
    """The format that was asked for, or that the file's name tells.

    Raises:
        UsageError: neither tells, or it cannot be written there.
    """
    named: Sequence[Format] = [one for one in _FORMATS if path.endswith(f".{one}")]
    told: Format | None = given or (named[0] if named else "jsonl" if path == STDOUT else None)
    if told is None:
        raise UsageError(f"FILE: {path!r} was read; a name that ends in .jsonl or .parquet is allowed, or --format")
    if told == "parquet":
        if path == STDOUT:
            raise UsageError("FILE: Parquet is not written to the standard output; name a file")
        _pyarrow()
    return told


@contextmanager
def exported(path: str, form: Format, columns: Mapping[str, Kind], *, replace: bool) -> Iterator[RowWriter]:
    """A writer to a file that is there, and whole, once the block has ended well; else nothing is left of it.

    Raises:
        UsageError: there is such a file already, or none can be made there.
        VoicebusError: it cannot be written, as on a full disk.
    """
    if path == STDOUT:
        writer = JsonLines(sys.stdout.buffer)
        yield writer
        writer.finish()
        return
    target = Path(path)
    if target.exists() and not replace:
        raise UsageError(f"FILE: {path!r} is there already; choose another name, or give --force to replace it")
    try:
        # Made anew, for the eyes of its owner alone: it holds what people said.
        descriptor, made_at = tempfile.mkstemp(".part", f".{target.name[:_NAME_CHARS]}.", target.parent)
    except OSError as error:
        raise UsageError(f"FILE: {path!r} cannot be written ({error.strerror})") from error
    beside = Path(made_at)
    try:
        with os.fdopen(descriptor, "wb") as file:
            made = Parquet(file, columns) if form == "parquet" else JsonLines(file)
            try:
                yield made
                made.finish()
            except BaseException:  # also on Ctrl-C: a half file is given up
                made.give_up()
                raise
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise VoicebusError(f"{path} cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("the package pyarrow is missing; install voicebus[parquet]") from error
    return pyarrow, parquet


def _text(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()
