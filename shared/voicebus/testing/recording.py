"""`recorded(session)`: everything that happens in a session, kept for the assertions of a test."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from voicebus.agents import checking
from voicebus.testing.expectations import (
    AbsenceExpectation,
    Expectation,
    ExpectationFailed,
    OrderExpectation,
    TextExpectation,
    ToolExpectation,
    error_expectation,
    field_expectation,
)
from voicebus.testing.timeline import RecordedEvent, read_event, rendered, words

DEFAULT_WITHIN_S: Final = 5.0


class Recording:
    """The events of a session since the recording began, and what a test may expect of them.

    Every `expect_…` gives something to await; see `voicebus.testing.expectations`. What fails prints the timeline.
    """

    def __init__(self, source: AsyncIterable[Any], *, within: float = DEFAULT_WITHIN_S) -> None:
        checking.number("recorded", "within", within)
        if not hasattr(source, "__aiter__"):
            checking.refuse("recorded", "session", "a session, or what is iterated over as one", source)
        self.limit_s = within
        # Grows as long as the recording: it is the test's own record, and a test ends.
        self.events: list[RecordedEvent] = []
        self.claimed: set[Any] = set()
        self.marked: int = 0
        """Number of the event from which on expectations look."""
        self.ended: bool = False
        """Whether the session has ended."""
        self.failure: BaseException | None = None
        """What ended the session, if that was an error."""
        self._source = source
        self._made: list[Expectation] = []
        self._news = asyncio.Event()
        self._began = 0.0
        self._reader: asyncio.Task[None] | None = None

    # --- expecting ----------------------------------------------------------------------------------

    def expect_tool(self, tool: str) -> ToolExpectation:
        """A call of `tool`; refine it by `with_arguments`, `with_output`, `with_outcome`."""
        return ToolExpectation(self, tool)

    def expect_text(
        self,
        containing: str | None = None,
        *,
        matching: "str | re.Pattern[str] | None" = None,
        equal_to: str | None = None,
        role: str = "assistant",
    ) -> TextExpectation:
        """A text of the assistant (or the user, by `role`); any text where nothing is said about it.

        What items said that were there before the last `mark()` does not count.
        """
        return TextExpectation(self, containing, matching, equal_to, role)

    def expect_handoff(self, to: str | None = None, *, from_: str | None = None) -> Expectation:
        """A handoff, by the agents' names."""
        return field_expectation(self, "a handoff", ("handoff",), to_agent=to, from_agent=from_)

    def expect_guardrail(self, name: str | None = None) -> Expectation:
        """A trip of an output or input guardrail."""
        what = f"a trip of guardrail {name}" if name else "a trip of a guardrail"
        kinds = ("guardrail_tripped", "input_guardrail_tripped")
        return Expectation(
            self, what, lambda event: event.type in kinds and (name is None or name in event.data["guardrails"])
        )

    def expect_approval(self, tool: str | None = None) -> Expectation:
        """A call that waits to be approved; its event has the `call_id`."""
        return field_expectation(self, "a call that waits for approval", ("tool_approval_required",), tool=tool)

    def expect_interruption(self) -> Expectation:
        """Sound that has to stop."""
        return field_expectation(self, "an interruption", ("audio_interrupted",))

    def expect_audio(self) -> Expectation:
        """Sound of an answer."""
        return Expectation(self, "audio", lambda event: event.type == "audio", once=False)

    def expect_error(self, containing: str = "") -> Expectation:
        """An `error` event whose code or message contains this."""
        return error_expectation(self, containing)

    def expect_event(self, type: str, **fields: Any) -> Expectation:  # noqa: A002 - the events' own name for it
        """Any event, by its type and some of its fields (as JSON)."""
        return field_expectation(self, f"an event {type}", (type,), **fields)

    def expect_no(self, *unwanted: Expectation) -> AbsenceExpectation:
        """None of these so far; with `.within(s)` none for `s` seconds more."""
        return AbsenceExpectation(self, *unwanted)

    def expect_order(self, *wanted: Expectation) -> OrderExpectation:
        """These, one after another (others may come between)."""
        return OrderExpectation(self, *wanted)

    def mark(self) -> None:
        """Let expectations made from now on look at later events only."""
        self.marked = len(self.events)

    # --- looking ------------------------------------------------------------------------------------

    @property
    def last(self) -> RecordedEvent:
        """The latest event; one of type `nothing` before there is any."""
        return self.events[-1] if self.events else RecordedEvent(-1, 0, "nothing", {})

    def of(self, type: str) -> list[RecordedEvent]:  # noqa: A002 - the events' own name for it
        """All events of a type so far."""
        return [event for event in self.events if event.type == type]

    def timeline(self, since: int = 0) -> str:
        """What happened, readable: a line per event from number `since` on, at most the last 40."""
        return rendered(self.events[since:])

    def items_before(self, index: int) -> frozenset[str]:
        """The items that had words before event number `index`."""
        return frozenset(said.item_id for event in self.events[:index] for said in words(event))

    # --- for expectations ---------------------------------------------------------------------------

    def made(self, expectation: Expectation) -> None:
        """Remember an expectation, so that one that is never awaited shows."""
        self._made.append(expectation)

    async def first(self, find: Callable[[], RecordedEvent | None], within: float) -> RecordedEvent | None:
        """What `find` finds, asked at each event; None after `within` s, or when the session has ended."""
        try:
            async with asyncio.timeout(within):
                while True:
                    news = self._news
                    found = find()
                    if found is not None or self.ended:
                        return found
                    await news.wait()
        except TimeoutError:
            return find()

    def failure_text(self, what: str, within: float, near: Sequence[str], since: int) -> str:
        """Why an expectation failed."""
        if self.failure is not None:
            why = f"the session failed before: {type(self.failure).__name__}: {self.failure}"
        elif self.ended:
            why = "the session ended before"
        else:
            why = f"it did not come within {within:g} s"
        close = "".join(f"\n  instead: {line}" for line in near)
        return f"expected {what}; {why}{close}\nwhat happened instead:\n{self.timeline(since)}"

    def presence_text(self, what: str, event: RecordedEvent, since: int) -> str:
        """Why something that must not happen failed."""
        return f"expected {what}; but {event.type} came at {event.at_ms} ms\nwhat happened:\n{self.timeline(since)}"

    # --- recording ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        # Taken here, so that nothing is missed that happens before the task's first turn.
        events = aiter(self._source)
        self._reader = asyncio.create_task(self._read(events), name="recording")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        if error is None:
            for expectation in self._made:
                if not expectation.used:
                    raise ExpectationFailed(f"this was expected, but never awaited: {expectation}")

    async def _read(self, events: AsyncIterator[Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for event in events:
                at_ms = round((loop.time() - self._began) * 1000)
                read = read_event(len(self.events), at_ms, event)
                if read is not None:
                    self.events.append(read)
                    self._tell()
        except Exception as error:  # noqa: BLE001 - whatever ends the session is what expectations report
            self.failure = error
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def recorded(session: AsyncIterable[Any], *, within: float = DEFAULT_WITHIN_S) -> Recording:
    """Record a session (a `RealtimeSession`, or a `GatewayCall`) for the time of an `async with`.

        async with recorded(session) as events:
            await session.send_message("What is the weather in Paris?")
            await events.expect_tool("get_weather").with_arguments(city="Paris").within(5)
            await events.expect_text(containing="sunny")

    `within` is how long expectations wait that set no limit of their own, in s.

    Raises, on leaving:
        ExpectationFailed: an expectation was made, but never awaited.
    """
    return Recording(session, within=within)
