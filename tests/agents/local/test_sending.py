"""What a function that is called says to a model of the program's own, whose reader waits for that call."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from support.waiting import wait_until
from voicebus import (
    RealtimeAgent,
    RealtimeModel,
    RealtimeModelOtherEvent,
    RealtimeModelSendEvent,
    RealtimeModelSendToolOutput,
    RealtimeModelSendUserInput,
    RealtimeModelToolCallEvent,
    RealtimeRunner,
    RealtimeSession,
    function_tool,
)
from voicebus.errors import UserError
from voicebus.testing import RealtimeStep, ScriptedRealtimeModel

CALL = RealtimeModelToolCallEvent(name="note", call_id="c1", arguments="{}")


def kinds(sent: Sequence[RealtimeModelSendEvent]) -> list[str]:
    return [type(event).__name__.removeprefix("RealtimeModelSend") for event in sent]


async def held_by_its_calls(
    model: RealtimeModel, act: Callable[[RealtimeSession], Coroutine[Any, Any, None]]
) -> RealtimeSession:
    """A session whose calls the model's reader waits for; `act` is what its function does."""

    @function_tool
    async def note() -> str:
        """Take a note."""
        await act(session)
        return "noted"

    agent = RealtimeAgent[Any]("desk", tools=[note])
    session = await RealtimeRunner(agent, model=model, config={"async_tool_calls": False}).run()
    return session


async def ask(session: RealtimeSession) -> None:
    await session.send_message("from the function")


async def test_it_is_sent_before_the_function_goes_on_where_the_call_was_made_in_the_middle_of_a_send() -> None:
    sent: list[str] = []

    async def act(session: RealtimeSession) -> None:
        await ask(session)
        sent.extend(kinds(model.sent_events))

    asked, answered = RealtimeModelSendUserInput, RealtimeModelSendToolOutput
    model = ScriptedRealtimeModel([RealtimeStep(asked, emit=[CALL]), RealtimeStep(asked), RealtimeStep(answered)])
    async with await held_by_its_calls(model, act) as session, asyncio.timeout(20):
        await session.send_message("Hello")
        model.assert_complete()
    assert sent == ["UserInput", "UserInput"]


async def test_a_call_within_what_a_function_says_waits_for_nothing() -> None:
    asked, answered = RealtimeModelSendUserInput, RealtimeModelSendToolOutput
    inner = RealtimeModelToolCallEvent(name="no such tool", call_id="c2", arguments="{}")
    steps = [RealtimeStep(asked, emit=[CALL]), RealtimeStep(asked, emit=[inner])]
    model = ScriptedRealtimeModel([*steps, RealtimeStep(answered), RealtimeStep(answered)])
    async with await held_by_its_calls(model, ask) as session, asyncio.timeout(20):
        await session.send_message("Hello")
        await wait_until(lambda: not model.remaining_steps, description="both outputs")


class Acknowledging(ScriptedRealtimeModel):
    """Takes a message once its reader has read that it came; `refusing`: it then refuses it."""

    def __init__(self, *, refusing: bool = False) -> None:
        super().__init__(strict=False)
        self.acknowledged = asyncio.Event()
        self._refusing = refusing

    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        await super().send_event(event)
        if isinstance(event, RealtimeModelSendUserInput):
            await self.acknowledged.wait()
            if self._refusing:
                raise ValueError("no room")

    async def read(self) -> None:
        await self.emit(CALL, RealtimeModelOtherEvent("ack"))
        self.acknowledged.set()


@pytest.mark.parametrize("refusing", [False, True])
async def test_a_function_is_not_held_up_by_a_send_that_the_waiting_reader_would_acknowledge(refusing: bool) -> None:
    model = Acknowledging(refusing=refusing)
    async with await held_by_its_calls(model, ask) as session, asyncio.timeout(20):
        await model.read()
        await wait_until(lambda: len(model.sent_events) == 2, description="the output in its turn")
        assert kinds(model.sent_events) == ["UserInput", "ToolOutput"]
        told = [event async for event in up_to_output(session, model)]
    errors = [event for event in told if event.type == "error"]
    assert ["no room" in str(event.error) for event in errors] == ([True] if refusing else [])


class Impatient(ScriptedRealtimeModel):
    """Makes a call in the middle of its first send, and gives that up while it is sent something more."""

    def __init__(self) -> None:
        super().__init__(strict=False)
        self._sends = 0
        self._patience: asyncio.Timeout | None = None

    async def send_event(self, event: RealtimeModelSendEvent) -> None:
        self._sends += 1
        if self._sends == 1:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as self._patience:
                    await self.emit(CALL)
        elif self._sends == 2:
            assert self._patience is not None
            self._patience.reschedule(0)
            await asyncio.Event().wait()
        else:
            await super().send_event(event)


async def test_a_function_is_told_where_the_model_gives_up_what_it_says_and_what_comes_then_is_sent() -> None:
    told: list[str] = []

    async def act(session: RealtimeSession) -> None:
        try:
            await ask(session)
        except UserError as error:
            told.append(str(error))

    model = Impatient()
    async with await held_by_its_calls(model, act) as session, asyncio.timeout(20):
        await session.send_message("Hello")
        await wait_until(lambda: model.sent_events, description="the output")
        assert kinds(model.sent_events) == ["ToolOutput"]
    assert told == ["the send that the model is in the middle of was given up before the model had taken this"]


async def up_to_output(session: RealtimeSession, model: Acknowledging) -> Any:
    """The events up to one that comes last."""
    await model.emit(RealtimeModelOtherEvent("last"))
    async for event in session:
        yield event
        if event.type == "raw_model_event" and event.data == RealtimeModelOtherEvent("last"):
            return


async def test_what_a_function_says_while_the_model_connects_is_sent_once_it_is() -> None:
    model = ScriptedRealtimeModel(strict=False, connect_events=[CALL])
    async with asyncio.timeout(20), await held_by_its_calls(model, ask):
        await wait_until(lambda: len(model.sent_events) == 2, description="message and output")
        assert kinds(model.sent_events) == ["UserInput", "ToolOutput"]
