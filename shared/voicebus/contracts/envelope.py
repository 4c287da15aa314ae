"""The envelope of every stream entry, and its one translation to and from Redis fields (contract section 2)."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Self

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from voicebus.errors import ContractError
from voicebus.utf8 import encoded, sendable

VERSION: Final = 1
_VERSION: Final = str(VERSION)
_VERSION_DIGITS: Final = 9

_DATA: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode
_HALF_PAIR: Final = r"\ud"


def _whole(given: Any) -> Any:
    return round(given) if isinstance(given, float) and math.isfinite(given) else given


# Whole, also where the clock of a worker in another language counts fractions of them.
Milliseconds = Annotated[int, BeforeValidator(_whole)]


class Message(BaseModel):
    """Base of everything that travels in `data`: frozen, and open to fields of later versions."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, entry: "Entry") -> Self:
        """The message in an entry's `data`.

        Raises:
            ContractError: `malformed`; dead-letter the entry.
        """
        try:
            return cls.model_validate(entry.data)
        except ValidationError as error:
            raise ContractError(f"{entry.type}: {_first(error)}", reason="malformed") from error


def entry_fields(
    id: str,  # noqa: A002 - the field's name
    type_: str,
    session: str,
    epoch: int,
    at: int,
    data: str,
    *,
    seq: int | None = None,
    deadline: int | None = None,
    traceparent: str | None = None,
) -> dict[str, str]:
    """An entry of this version as Redis stream fields, absent ones left out; `data` is JSON."""
    fields = {
        "v": _VERSION,
        "id": id,
        "type": type_,
        "session": session,
        "epoch": str(epoch),
        "at": str(at),
        "data": data,
    }
    if seq is not None:
        fields["seq"] = str(seq)
    if deadline is not None:
        fields["deadline"] = str(deadline)
    if traceparent is not None:
        fields["traceparent"] = traceparent
    return fields


class Entry(msgspec.Struct, frozen=True):
    """One stream entry, which every hop makes and reads: hence no pydantic model, at a tenth of its cost.
    Times are ms of the Redis server's clock.

       `seq` is given by a session's owner to recorded events only; `deadline` bounds when work may still start.
    """

    id: str
    type: str
    session: str
    epoch: Annotated[int, msgspec.Meta(ge=0)]
    at: int
    data: dict[str, Any]
    seq: Annotated[int, msgspec.Meta(ge=1)] | None = None
    deadline: int | None = None
    traceparent: str | None = None
    v: int = VERSION

    def fields(self) -> dict[str, str]:
        """The entry as Redis stream fields; absent values are left out."""
        fields = self.sealed().fields()
        if self.seq is not None:
            fields["seq"] = str(self.seq)
        return fields if self.v == VERSION else {**fields, "v": str(self.v)}

    def sealed(self) -> "Sealed":
        """The entry as it is sent to one process or one queue; recorded events, with a `seq`, go another way."""
        data = encoded(_encode, self.data).decode()
        return Sealed(self.id, self.type, self.session, self.epoch, self.at, data, self.deadline, self.traceparent)

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> "Entry":
        """Read an entry from Redis stream fields.

        Raises:
            ContractError: `unsupported_version` for a newer `v`, else `malformed`; dead-letter the entry.
        """
        version = fields.get("v", "")
        # Not `isdigit` alone, which takes a superscript two, and never `int` of any length: both would raise.
        if not (version.isascii() and version.isdigit()):
            raise ContractError(f"entry has no version (v={version[:20]!r})", reason="malformed")
        if len(version) > _VERSION_DIGITS or int(version) > VERSION:
            raise ContractError(
                f"entry has version {version[:20]}, this service reads up to {VERSION}", reason="unsupported_version"
            )
        try:
            data = json_object(fields.get("data", ""))
        except ValueError as error:
            raise ContractError(f"entry field data: {error}", reason="malformed") from error
        try:
            return msgspec.convert({**fields, "data": data}, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ContractError(f"entry: {error}", reason="malformed") from error


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """An entry of this version on its way: `data` is its JSON text, as its model wrote it.

    Nothing but numbers and text: thousands are kept for a fail-over, which cost the garbage collector nothing.
    """

    id: str
    type: str
    session: str
    epoch: int
    at: int
    data: str
    deadline: int | None = None
    traceparent: str | None = None

    def fields(self) -> dict[str, str]:
        """The entry as Redis stream fields; absent values are left out."""
        return entry_fields(
            self.id, self.type, self.session, self.epoch, self.at, self.data,
            deadline=self.deadline, traceparent=self.traceparent,
        )  # fmt: skip

    def flat(self) -> list[str]:
        """Names and values of the fields behind each other, as `XADD` takes them."""
        flat = [
            "v", _VERSION, "id", self.id, "type", self.type, "session", self.session, "epoch", str(self.epoch),
            "at", str(self.at), "data", self.data,
        ]  # fmt: skip
        if self.deadline is not None:
            flat += ("deadline", str(self.deadline))
        if self.traceparent is not None:
            flat += ("traceparent", self.traceparent)
        return flat


def json_object(text: str) -> dict[str, Any]:
    """A JSON object; also one with half a surrogate pair in it, which JavaScript leaves where it cuts an emoji apart.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return _DATA.decode(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except msgspec.DecodeError as error:
        if _HALF_PAIR not in text.lower():
            raise
        try:
            return _DATA.decode(_encode(sendable(json.loads(text))))
        except (ValueError, RecursionError):
            raise error from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'data'}: {first['msg']}"
