"""The progress of a call: heard from any thread, bounded in number and size, and never after its result."""

import asyncio
import threading

import pytest

from voicebus import ToolContext, UserError
from voicebus.agents.tools import progress as module
from voicebus.agents.tools.progress import MAX_CHARS, Progress


async def test_the_first_text_goes_out_at_once_and_of_those_that_follow_closely_the_last() -> None:
    sent: list[str] = []
    progress = Progress(sent.append)
    for text in ("one", "two", "three"):
        progress.say(text)
    assert sent == ["one"]
    progress.close()
    assert sent == ["one", "three"], "what waits goes out before the result"


async def test_a_tool_that_never_stops_talking_is_heard_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.001)
    sent: list[str] = []
    progress = Progress(sent.append)
    progress.say("1")
    while len(sent) < 3:
        progress.say(str(len(sent) + 1))
        await asyncio.sleep(0)
    assert sent == ["1", "2", "3"]
    progress.close()


async def test_nothing_is_heard_of_a_call_that_has_ended() -> None:
    sent: list[str] = []
    progress = Progress(sent.append)
    progress.close()
    progress.say("late")
    assert sent == []


async def test_a_thread_is_heard_on_the_loop() -> None:
    heard_on: list[int] = []
    progress = Progress(lambda text: heard_on.append(threading.get_ident()))
    await asyncio.to_thread(progress.say, "half")
    await asyncio.sleep(0)
    assert heard_on == [threading.get_ident()]
    progress.close()


def test_a_thread_that_outlived_its_loop_speaks_to_nobody() -> None:
    made: list[Progress] = []

    async def make() -> None:
        made.append(Progress(lambda text: None))

    asyncio.run(make())
    thread = threading.Thread(target=made[0].say, args=("late",))
    thread.start()
    thread.join()


async def test_a_long_text_is_cut() -> None:
    sent: list[str] = []
    progress = Progress(sent.append)
    progress.say("x" * 5_000)
    assert len(sent[0]) == MAX_CHARS
    assert sent[0].endswith("…")
    progress.close()


async def test_progress_is_said_with_and_without_await() -> None:
    said: list[str] = []
    context = ToolContext(None, tool_name="look", tool_call_id="c1", reports=said.append)
    await context.progress("a")
    context.progress("b")
    assert said == ["a", "b"]


async def test_a_context_without_listeners_takes_progress_too() -> None:
    await ToolContext(None, tool_name="look", tool_call_id="c1").progress("a")


def test_progress_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="takes a text, not 50"):
        ToolContext(None, tool_name="look", tool_call_id="c1").progress(50)  # type: ignore[arg-type]
