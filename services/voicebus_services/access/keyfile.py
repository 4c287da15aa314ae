"""The file of API keys: one key per line, in either of two forms. Pure: text in, keys out.

- `{"id": …, "tenant": …, "sha256": …}`, as `voicebus keys create` prints it: the file holds no secret. Optional are
  `agents` (a list of names), `expires` (RFC 3339) and `limits` (see `Limits`).
- `tenant:key`, the key in plain text.

Why SHA-256 and no slow hash: a key that `new_key` makes has 256 random bits, so that guessing is hopeless at any speed
and a salt protects nothing; and a request is judged in microseconds instead of a tenth of a second.
"""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from voicebus.contracts.journal import MAX_TENANT_CHARS
from voicebus.errors import VoicebusError
from voicebus_services.access.principal import Kind, Limits, Principal

MAX_KEY_CHARS: Final = 512
KEY_PREFIX: Final = "vb_"

_NAME: Final = r"^[^\s:{}\x00-\x1f]+$"


class KeyFileError(VoicebusError):
    """The text is no file of keys; the sentence names the line and never what it holds."""


class StoredKey(BaseModel):
    """A key as the file holds it: its digest, and what it opens."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=_NAME, max_length=64)]
    tenant: Annotated[str, Field(pattern=_NAME, max_length=MAX_TENANT_CHARS)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    agents: Annotated[frozenset[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1)] | None = None
    expires: AwareDatetime | None = None
    limits: Limits = Limits()

    def line(self) -> str:
        """The line to store."""
        return self.model_dump_json(exclude_none=True, exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file. Holds the digest alone, so that no key reaches a log or a traceback from here."""

    digest: bytes
    principal: Principal


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def new_key() -> str:
    """A key of 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def parse(text: str) -> tuple[Key, ...]:
    """Read the text of a keys file; blank lines and `#` comments are skipped.

    Raises:
        KeyFileError: a line has neither form, two keys have one id, or there is no key at all.
    """
    keys: list[Key] = []
    known: set[str] = set()
    for number, line in _lines(text):
        key = _hashed(number, line) if line.startswith("{") else _plain(number, line, known)
        if key.principal.key_id in known:
            raise KeyFileError(f"line {number} repeats the id {key.principal.key_id!r}; ids are unique")
        known.add(key.principal.key_id)
        keys.append(key)
    if not keys:
        raise KeyFileError("there is no key in it; `voicebus keys create` makes one")
    return tuple(keys)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def _hashed(number: int, line: str) -> Key:
    try:
        stored = StoredKey.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise KeyFileError(f"line {number} is no key: {where + ': ' if where else ''}{first['msg']}") from None
    principal = Principal(
        tenant=stored.tenant,
        key_id=stored.id,
        kind=Kind.API_KEY,
        agents=stored.agents,
        limits=stored.limits,
        expires_at=stored.expires.timestamp() if stored.expires else None,
        mark=_mark(bytes.fromhex(stored.sha256)),
    )
    return Key(bytes.fromhex(stored.sha256), principal)


def _plain(number: int, line: str, known: set[str]) -> Key:
    tenant, separator, key = (part.strip() for part in line.partition(":"))
    usable = tenant and len(tenant) <= MAX_TENANT_CHARS and key.isascii() and 0 < len(key) <= MAX_KEY_CHARS
    if not (separator and usable):
        raise KeyFileError(
            f"line {number} is neither tenant:key (ASCII, at most {MAX_KEY_CHARS} characters)"
            ' nor {"id": …, "tenant": …, "sha256": …}'
        )
    # The place among the tenant's own keys: nothing of the key itself may show.
    place = sum(id.startswith(f"{tenant}:") for id in known) + 1  # noqa: A001 - the field's name
    return Key(digest(key), Principal(tenant, f"{tenant}:{place}", Kind.API_KEY, mark=_mark(digest(key))))


def _mark(digested: bytes) -> str:
    """Tells a key from another one that takes its id, or its place in the file."""
    return hashlib.sha256(b"mark:" + digested).hexdigest()[:16]
