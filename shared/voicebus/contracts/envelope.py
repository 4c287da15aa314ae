"""The envelope of every stream entry, and its one translation to and from Redis fields (contract section 2)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from voicebus.errors import ContractError

VERSION: Final = 1
_VERSION_DIGITS: Final = 9

_DATA: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])


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


class Entry(BaseModel):
    """One stream entry. Times are ms of the Redis server's clock.

    `seq` is given by a session's owner to recorded events only; `deadline` bounds when work may still start.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)

    v: int = VERSION
    id: str
    type: str
    session: str
    epoch: int = Field(ge=0)
    seq: int | None = Field(None, ge=1)
    at: int
    deadline: int | None = None
    traceparent: str | None = None
    data: dict[str, Any]

    def fields(self) -> dict[str, str]:
        """The entry as Redis stream fields; absent values are left out."""
        fields = {
            "v": str(self.v),
            "id": self.id,
            "type": self.type,
            "session": self.session,
            "epoch": str(self.epoch),
            "at": str(self.at),
            "data": _DATA.dump_json(self.data).decode(),
        }
        if self.seq is not None:
            fields["seq"] = str(self.seq)
        if self.deadline is not None:
            fields["deadline"] = str(self.deadline)
        if self.traceparent is not None:
            fields["traceparent"] = self.traceparent
        return fields

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
            return cls.model_validate({**fields, "data": _DATA.validate_json(fields.get("data", ""))})
        except ValidationError as error:
            raise ContractError(f"entry field {_first(error)}", reason="malformed") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'data'}: {first['msg']}"
