"""What a test expects of a session, to be awaited: `await events.expect_tool("get_weather").within(5)`.

An expectation is fulfilled by the first event that fits, of those since the recording's last `mark()`; how the ones
of a test follow each other in time is of no matter (`expect_order` for that). One call, handoff, trip, interruption
or error fulfils one expectation only, so that two expectations need two of them; texts may fulfil several.
"""

import re
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from voicebus.testing.scripts import contains, described, shortened
from voicebus.testing.timeline import RecordedEvent, arguments_of, called, error_text, parsed, words

if TYPE_CHECKING:
    from voicebus.testing.recording import Recording

_NOT_GIVEN: Final = object()
Fits = Callable[[RecordedEvent], bool]


class ExpectationFailed(AssertionError):  # noqa: N818 - reads as what happened
    """Something expected did not happen, or something happened that was not to; the text shows what did instead."""


class Expectation:
    """Something that shall happen. Await it; the result is the event that fulfilled it.

    Raises, when awaited:
        ExpectationFailed: it did not happen in time, or the session ended before.
    """

    def __init__(self, recording: "Recording", what: str, fits: Fits, *, once: bool = True) -> None:
        self.recording = recording
        self.used: bool = False
        """Whether it was awaited, or is part of another one."""
        self._what = what
        self._fits = fits
        self._once = once
        self._within = recording.limit_s
        self._start = recording.marked
        recording.made(self)

    def __str__(self) -> str:
        return self._what

    def within(self, seconds: float) -> Self:
        """Wait at most `seconds` from when it is awaited; default is the recording's limit."""
        self._within = seconds
        return self

    def find(self, after: int = -1) -> RecordedEvent | None:
        """The first event behind number `after` that fulfils this, if it is there already."""
        for event in self.recording.events[max(self._start, after + 1) :]:
            if self._candidate(event) and self._fits(event):
                return event
        return None

    def near_misses(self) -> list[str]:
        """What came close, for the message of a failure."""
        return []

    def claim(self, event: RecordedEvent) -> None:
        """Let `event` fulfil no other expectation."""
        if self._once:
            self.recording.claimed.add(self._key(event))

    def __await__(self) -> Generator[Any, None, RecordedEvent]:
        return self._met().__await__()

    async def _met(self) -> RecordedEvent:
        self.used = True
        event = await self.recording.first(self.find, self._within)
        if event is None:
            raise ExpectationFailed(
                self.recording.failure_text(str(self), self._within, self.near_misses(), self._start)
            )
        self.claim(event)
        return event

    def _key(self, event: RecordedEvent) -> Any:
        return event.index

    def _candidate(self, event: RecordedEvent) -> bool:
        return not self._once or self._key(event) not in self.recording.claimed


class ToolExpectation(Expectation):
    """A call of a tool. Without `with_output` and `with_outcome` its start is enough, or its refusal."""

    def __init__(self, recording: "Recording", tool: str) -> None:
        super().__init__(recording, f"a call of {tool}", self._is_the_call)
        self._tool = tool
        self._arguments: Mapping[str, Any] = {}
        self._output: Any = _NOT_GIVEN
        self._containing: str | None = None
        self._outcome: str | None = None

    def with_arguments(self, arguments: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """Among the call's arguments are these; a function as a value is asked."""
        self._arguments = {**(arguments or {}), **named}
        return self

    def with_output(self, output: Any = _NOT_GIVEN, *, containing: str | None = None) -> Self:
        """The call ends with this output (what else a mapping has does not matter), or with text `containing` this."""
        self._output, self._containing = output, containing
        return self

    def with_outcome(self, outcome: str) -> Self:
        """The call ends this way: ok, error, timeout, cancelled, expired or unknown."""
        self._outcome = outcome
        return self

    def __str__(self) -> str:
        parts = [f"a call of {self._tool}"]
        if self._arguments:
            parts.append("with " + ", ".join(f"{name}={_shown(value)}" for name, value in self._arguments.items()))
        if self._output is not _NOT_GIVEN:
            parts.append(f"that returns {_shown(self._output)}")
        if self._containing is not None:
            parts.append(f"that returns something with {self._containing!r}")
        if self._outcome is not None:
            parts.append(f"that ends {self._outcome}")
        return " ".join(parts)

    def near_misses(self) -> list[str]:
        """The tool's other calls."""
        seen: dict[Any, str] = {}
        for event in self.recording.events[self._start :]:
            if self._of_the_tool(event):
                about = called(self._tool, arguments_of(event))
                key = event.data.get("call_id") or event.index
                if not self._candidate(event):
                    seen[key] = f"{about} fulfilled another expectation"
                elif event.type == "tool_end":
                    seen[key] = (
                        f"{about} ended {event.data.get('outcome', 'ok')} with {_shown(event.data.get('output'))}"
                    )
                else:
                    seen[key] = f"{about} was called"
        return list(seen.values())

    def _is_the_call(self, event: RecordedEvent) -> bool:
        if not self._of_the_tool(event) or not contains(self._arguments, arguments_of(event)):
            return False
        if self._output is _NOT_GIVEN and self._containing is None and self._outcome is None:
            return True
        output = event.data.get("output")
        return (
            event.type == "tool_end"
            and (self._outcome is None or event.data.get("outcome", "ok") == self._outcome)
            and (self._output is _NOT_GIVEN or self._output == output or contains(self._output, parsed(output)))
            and (self._containing is None or self._containing in str(output))
        )

    def _of_the_tool(self, event: RecordedEvent) -> bool:
        return event.type in ("tool_start", "tool_end") and event.data.get("tool") == self._tool

    def _key(self, event: RecordedEvent) -> Any:
        return ("call", event.data.get("call_id") or event.index)


class TextExpectation(Expectation):
    """Something said, as soon as its words are known."""

    def __init__(
        self,
        recording: "Recording",
        containing: str | None,
        matching: "str | re.Pattern[str] | None",
        equal_to: str | None,
        role: str,
    ) -> None:
        pattern = re.compile(matching) if isinstance(matching, str) else matching
        wanted = " and ".join(
            part
            for part in (
                containing is not None and f"containing {containing!r}",
                pattern is not None and f"matching {pattern.pattern!r}",
                equal_to is not None and f"that is {equal_to!r}",
            )
            if part
        )
        super().__init__(recording, f"a text of the {role} {wanted}".rstrip(), self._says_it, once=False)
        self._role = role
        self._containing = containing
        self._pattern = pattern
        self._equal_to = equal_to
        self._older = recording.items_before(self._start)

    def _says_it(self, event: RecordedEvent) -> bool:
        return any(
            said.role == self._role
            and said.item_id not in self._older
            and said.text.strip() != ""
            and (self._containing is None or self._containing in said.text)
            and (self._pattern is None or self._pattern.search(said.text) is not None)
            and (self._equal_to is None or said.text.strip() == self._equal_to.strip())
            for said in words(event)
        )


class AbsenceExpectation(Expectation):
    """None of some expectations is fulfilled: not so far, or, with `within(s)`, not for `s` more seconds.

    Awaiting it gives the last event so far.
    """

    def __init__(self, recording: "Recording", *unwanted: Expectation) -> None:
        super().__init__(recording, f"none of this: {', '.join(str(each) for each in unwanted)}", lambda _: False)
        self._unwanted = _parts(unwanted)
        self._within = 0.0

    def find(self, after: int = -1) -> RecordedEvent | None:
        """The first event that fulfils one of them."""
        found = [event for each in self._unwanted if (event := each.find(after)) is not None]
        return min(found, key=lambda event: event.index, default=None)

    async def _met(self) -> RecordedEvent:
        self.used = True
        event = await self.recording.first(self.find, self._within)
        if event is not None:
            raise ExpectationFailed(self.recording.presence_text(str(self), event, self._start))
        return self.recording.last


class OrderExpectation(Expectation):
    """Expectations that are fulfilled one after another. Awaiting it gives the event of the last."""

    def __init__(self, recording: "Recording", *wanted: Expectation) -> None:
        super().__init__(recording, ", then ".join(str(each) for each in wanted), lambda _: False)
        self._wanted = _parts(wanted)

    def find(self, after: int = -1) -> RecordedEvent | None:
        """The event of the last one, if all are there in their order."""
        event = None
        for each in self._wanted:
            event = each.find(after)
            if event is None:
                return None
            after = event.index
        return event

    def near_misses(self) -> list[str]:
        """The first one that is missing in its place."""
        after = -1
        for each in self._wanted:
            event = each.find(after)
            if event is None:
                there = each.find()
                behind = f"; it came earlier, at {there.at_ms} ms" if there is not None else ""
                return [f"missing in its place: {each}{behind}", *each.near_misses()]
            after = event.index
        return []

    def claim(self, event: RecordedEvent) -> None:
        """Let the events of all of them fulfil no other expectation."""
        after = -1
        for each in self._wanted:
            found = each.find(after)
            if found is None:
                return
            each.claim(found)
            after = found.index


def field_expectation(recording: "Recording", what: str, kinds: tuple[str, ...], **fields: Any) -> Expectation:
    """An event of one of `kinds` whose fields are these; a None is not looked at."""
    wanted = {name: value for name, value in fields.items() if value is not None}
    about = ", ".join(f"{name}={_shown(value)}" for name, value in wanted.items())
    said = f"{what} ({about})" if about else what
    return Expectation(recording, said, lambda event: event.type in kinds and contains(wanted, event.data))


def error_expectation(recording: "Recording", containing: str) -> Expectation:
    """An `error` event whose code or message contains this."""
    said = f"an error with {containing!r}" if containing else "an error"
    return Expectation(recording, said, lambda event: event.type == "error" and containing in error_text(event))


def _parts(expectations: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
    for each in expectations:
        each.used = True
    return expectations


def _shown(value: Any) -> str:
    return described(value) if callable(value) else shortened(value, 120)
