"""Dead letters for operators: to list, to read, to put back into the stream that they came from, to drop."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import REPLAY
from voicebus.contracts.streams import RESERVED_QUEUES, Keys
from voicebus.contracts.tools import TOOL_CALL
from voicebus.errors import UsageError, VoicebusError
from voicebus.ports import Clock

# What the letter adds to the entry (contract section 2).
_ADDED: Final = ("reason", "error", "deliveries", "origin", "history")

# An entry with one of these was given up before it could start.
_UNSTARTED: Final = frozenset({"expired", "malformed", "unsupported_version", "unexpected_type"})

_ENTRY: Final = re.compile(r"[0-9]+-[0-9]+")
_PAGE: Final = 500
_DEADLINE_MS: Final = 30_000


class NotThereError(VoicebusError):
    """There is no such dead letter, or not any more."""


class NotReplayedError(VoicebusError):
    """A dead letter stays where it is; the text says why, and what to do."""


@dataclass(frozen=True)
class DeadLetter:
    """One letter. `id` is `QUEUE/ENTRY`, as commands take it; `fields` are the entry's and what the letter adds."""

    queue: str
    entry: str
    fields: Mapping[str, str]

    @property
    def id(self) -> str:
        return f"{self.queue}/{self.entry}"

    @property
    def reason(self) -> str:
        return self.fields.get("reason", "")

    @property
    def stream(self) -> str:
        """The stream that it came from."""
        return self.fields.get("origin", "").rpartition("/")[0]

    @property
    def at_ms(self) -> int:
        """When it was given up, ms of the server's clock."""
        return int(self.entry.partition("-")[0])

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """The entry's `data`; empty where that is no JSON object."""
        try:
            data = json.loads(self.fields.get("data", ""))
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def is_call(self) -> bool:
        """Whether it is a tool call that can be told from others."""
        return self.fields.get("type") == TOOL_CALL and "call_id" in self.data and bool(self.fields.get("session"))

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The starts of a call: `{worker, at}`, oldest first."""
        try:
            history = json.loads(self.fields.get("history", "[]"))
        except (ValueError, RecursionError):
            return []
        return history if isinstance(history, list) else []

    def entry_fields(self, *, deadline_ms: int | None) -> dict[str, str]:
        """The entry as it goes back: its own ids, another deadline, and for a call, that it is replayed."""
        fields = {name: text for name, text in self.fields.items() if name not in _ADDED}
        if deadline_ms is not None and "deadline" in fields:
            fields["deadline"] = str(deadline_ms)
        if self.is_call:
            fields["data"] = json.dumps({**self.data, "hops": 0, "replayed": True}, ensure_ascii=False)
        return fields

    @property
    def span_ms(self) -> int:
        """How long the entry had from when it was written to its deadline."""
        try:
            span = int(self.fields["deadline"]) - int(self.fields["at"])
        except (KeyError, ValueError):
            return _DEADLINE_MS
        return span if span > 0 else _DEADLINE_MS


class LetterBox:
    """The dead letters of a cluster. Methods raise `BusError` where Redis cannot be reached."""

    def __init__(self, bus: RedisConnection, keys: Keys, clock: Clock) -> None:
        self._bus = bus
        self._keys = keys
        self._clock = clock

    async def queues(self) -> list[str]:
        """The queues that have dead letters, our own among them (`guardrails`, `events`, `inbox`)."""
        before, _, behind = self._keys.dead("\0").partition("\0")
        found = {key[len(before) : -len(behind)] async for key in self._bus.scan(f"{before}*{behind}")}
        return sorted(found)

    async def letters(self, *, queue: str | None = None, reason: str | None = None) -> AsyncIterator[DeadLetter]:
        """The letters, oldest first in each queue; of one queue, or with one reason, where that is given."""
        for one in [queue] if queue is not None else await self.queues():
            start = "-"
            while True:
                page = await self._bus.call("XRANGE", self._keys.dead(one), start, "+", "COUNT", _PAGE)
                for entry, fields in page:
                    letter = DeadLetter(one, entry, fields)
                    if reason is None or letter.reason == reason:
                        yield letter
                if len(page) < _PAGE:
                    break
                start = f"({page[-1][0]}"

    async def get(self, letter_id: str) -> DeadLetter:
        """The letter of this id, `QUEUE/ENTRY`.

        Raises:
            UsageError: it is no such id.
            NotThereError: there is none.
        """
        queue, slash, entry = letter_id.rpartition("/")
        if not slash or not queue or _ENTRY.fullmatch(entry) is None:
            raise UsageError(f"{letter_id!r} is no id of a dead letter; `voicebus dead-letters list` shows them")
        for _, fields in await self._bus.call("XRANGE", self._keys.dead(queue), entry, entry):
            return DeadLetter(queue, entry, fields)
        raise NotThereError(f"there is no dead letter {letter_id}")

    async def replay(self, letter: DeadLetter, *, deadline_ms: int | None = None, force: bool = False) -> str:
        """Put it back into the stream that it came from, under its own ids; returns the new entry's id there.

        `deadline_ms` is what it has from now on, by default as much as it had at first. A tool call's record of earlier
        runs goes, so that it is run and not answered from there. `force` lets a call start that is not idempotent and
        may have started before.

        Raises:
            NotReplayedError: it would start twice, or has no stream to go back to.
            NotThereError: somebody was quicker.
        """
        deadline = self._clock.at_ms() + (letter.span_ms if deadline_ms is None else deadline_ms)
        fields = letter.entry_fields(deadline_ms=deadline)
        flat = [text for pair in fields.items() for text in pair]
        if letter.is_call and letter.queue not in RESERVED_QUEUES:
            return await self._replay_call(letter, flat, force=force)
        # Another slot than the letter's: written first, so that a failure in between loses nothing. Who reads these
        # streams knows an entry that comes twice.
        where = letter.stream
        added = await self._bus.call("XADD", where, "NOMKSTREAM", "*", *flat) if where else None
        if added is None:
            raise NotReplayedError(f"{letter.id} is not replayed: its stream {where or '?'} is gone; drop it instead")
        await self.drop(letter)
        return str(added)

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete it; False where it was gone already."""
        return bool(await self._bus.call("XDEL", self._keys.dead(letter.queue), letter.entry))

    async def _replay_call(self, letter: DeadLetter, flat: Sequence[str], *, force: bool) -> str:
        call_id = str(letter.data["call_id"])
        idempotent = letter.data.get("idempotent") is True
        keys = [
            self._keys.dead(letter.queue), self._keys.tools(letter.queue),
            self._keys.call(letter.queue, letter.fields["session"], call_id),
        ]  # fmt: skip
        status, detail = await self._bus.script(
            REPLAY, keys, letter.entry, int(force), int(idempotent), int(letter.reason in _UNSTARTED), *flat
        )
        if status == "replayed":
            return str(detail)
        if status == "gone":
            raise NotThereError(f"{letter.id} is not there any more")
        started = f"was started by {detail}" if detail else "may have been started: its record is gone"
        raise NotReplayedError(
            f"{letter.id} is not replayed: call {call_id} {started}, and its tool {letter.data.get('tool')!r} is not "
            "marked idempotent, so it might take effect twice; --force replays it all the same"
        )
