"""Running a tool: whatever it does, the model is told one thing."""

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from voicebus import FunctionTool, RunContextWrapper, ToolContext, ToolTimeoutError, function_tool
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS, ToolOutcome, invoke, serialise
from voicebus.contracts.tools import Outcome


def context(tool: FunctionTool, arguments: str = "") -> ToolContext[Any]:
    return ToolContext(
        context={"guest": "Ada"},
        tool_name=tool.name,
        tool_call_id="call_1",
        tool_arguments=arguments,
        agent="a",
        session="s1",
    )


async def run(tool: FunctionTool, arguments: str = "{}", limit: float = 5) -> ToolOutcome:
    return await invoke(tool, context(tool, arguments), arguments, timeout=limit)


async def test_an_async_function_runs_on_the_loop_and_a_sync_one_in_a_thread() -> None:
    @function_tool
    async def here() -> bool:
        return threading.current_thread() is threading.main_thread()

    @function_tool
    def there() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert (await run(here)).output == "true"
    assert (await run(there)).output == "false"


async def test_context_variables_reach_a_tool_in_a_thread() -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace")
    trace.set("t1")

    @function_tool
    def read() -> str:
        return trace.get()

    assert (await run(read)).output == "t1"


async def test_the_context_carries_a_key_that_stays_the_same_over_deliveries() -> None:
    @function_tool
    def key(ctx: ToolContext[Any]) -> str:
        return f"{ctx.idempotency_key} {ctx.context['guest']}"

    assert (await run(key)).output == "s1:call_1 Ada"


async def test_numbers_written_as_text_are_taken() -> None:
    @function_tool
    def double(n: int) -> int:
        return 2 * n

    assert (await run(double, '{"n": "5"}')).output == "10"


async def test_positional_variadic_and_named_arguments_arrive_where_they_belong() -> None:
    @function_tool(strict_mode=False)
    def collect(first: int, /, *rest: int, flag: bool = False, **more: str) -> str:
        return f"{first} {rest} {flag} {more}"

    told = await run(collect, '{"first": 1, "rest": [2, 3], "flag": true, "more": {"a": "b"}}')
    assert told.output == "1 (2, 3) True {'a': 'b'}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ('{"n": "many"}', "n: "),
        ("{}", "n: Field required"),
        ('{"n": 1, "m": 2}', "m: "),
        ("[1]", "must be a JSON object"),
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
async def test_wrong_arguments_tell_the_model_which_field_was_wrong(arguments: str, named: str) -> None:
    @function_tool
    def double(n: int) -> int:
        return 2 * n

    told = await run(double, arguments)
    assert told.outcome is Outcome.ERROR
    assert told.output.startswith("An error occurred while parsing tool arguments.")
    assert named in told.output
    assert told.error is not None
    assert told.error.kind == "invalid_arguments"


async def test_empty_arguments_are_an_empty_object() -> None:
    @function_tool
    def nothing() -> str:
        return "done"

    assert (await run(nothing, "")).output == "done"


async def test_a_raising_tool_becomes_output_by_default_or_by_its_own_function() -> None:
    def boom() -> str:
        raise ValueError("no such guest")

    assert (await run(function_tool(boom))).output == (
        "An error occurred while running the tool. Please try again. Error: no such guest"
    )

    async def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return f"Sorry: {error}"

    told = await run(function_tool(failure_error_function=own)(boom))
    assert (told.outcome, told.output) == (Outcome.ERROR, "Sorry: no such guest")
    told = await run(function_tool(failure_error_function=None)(boom))
    assert told.outcome is Outcome.ERROR
    assert "no such guest" not in told.output


async def test_a_failure_function_that_fails_leaves_a_plain_sentence() -> None:
    def own(_: RunContextWrapper[Any], __: Exception) -> str:
        raise RuntimeError("worse")

    @function_tool(failure_error_function=own)
    def boom() -> str:
        raise ValueError("first")

    assert (await run(boom)).output == "An error occurred while running the tool boom."


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit()])
async def test_what_would_end_a_process_only_fails_the_tool(error: BaseException) -> None:
    @function_tool
    def sync() -> str:
        raise error

    @function_tool
    async def running() -> str:
        raise error

    for tool in (sync, running):
        assert (await run(tool)).outcome is Outcome.ERROR


async def test_a_tool_past_its_limit_is_told_as_a_timeout_and_cancelled() -> None:
    ended = asyncio.Event()

    @function_tool
    async def endless() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    told = await run(endless, limit=0.05)
    assert (told.outcome, told.output) == (Outcome.TIMEOUT, "Tool 'endless' timed out after 0.05 seconds.")
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_tools_own_limit_and_text_come_first() -> None:
    @function_tool(timeout=0.01, timeout_error_function=lambda _, error: f"{error.tool_name} is slow today")
    async def endless() -> str:
        await asyncio.Event().wait()
        return ""

    assert (await run(endless, limit=60)).output == "endless is slow today"


async def test_a_thread_past_its_limit_is_left_behind_and_its_result_dropped() -> None:
    release = threading.Event()

    @function_tool
    def stuck() -> str:
        release.wait(10)
        return "late"

    told = await run(stuck, limit=0.05)
    release.set()
    assert told.outcome is Outcome.TIMEOUT


async def test_cancellation_from_outside_reaches_the_tool_and_leaves() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @function_tool
    async def endless() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    running = asyncio.create_task(run(endless, limit=60))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_error_function_that_never_answers_holds_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicebus.agents.tools.invoke.FORMATTER_TIMEOUT_S", 0.02)

    async def broken(_: Any, __: Exception) -> str:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    @function_tool(failure_error_function=broken)
    async def boom() -> str:
        raise ValueError("out of stock")

    @function_tool(timeout=0.01, timeout_error_function=broken)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "unreachable"

    async with asyncio.timeout(20):
        told = await run(boom)
        assert (told.outcome, told.output) == (Outcome.ERROR, "An error occurred while running the tool boom.")
        told = await run(slow)
        assert (told.outcome, told.output) == (Outcome.TIMEOUT, "Tool 'slow' timed out after 0.01 seconds.")


async def test_a_timeout_function_that_fails_changes_nothing_about_the_timeout() -> None:
    def failing(_: Any, __: Exception) -> str:
        raise KeyError("words")

    @function_tool(timeout=0.01, timeout_error_function=failing)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "unreachable"

    told = await run(slow)
    assert (told.outcome, told.error and told.error.kind) == (Outcome.TIMEOUT, "timeout")


async def test_a_tool_that_cancels_itself_has_failed() -> None:
    @function_tool
    async def quitter() -> str:
        raise asyncio.CancelledError

    assert (await run(quitter)).outcome is Outcome.ERROR


async def test_text_that_is_no_utf8_is_told_with_marks_in_its_place() -> None:
    @function_tool
    def names(fail: bool) -> list[str]:
        if fail:
            raise ValueError("no file \ud800")
        return ["a\ud800"]

    told = await run(names, '{"fail": false}')
    assert (told.outcome, told.output) == (Outcome.OK, '["a?"]')
    told = await run(names, '{"fail": true}')
    assert told.error is not None
    assert (told.error.message, told.output.endswith("no file ?")) == ("no file ?", True)


async def test_a_result_that_no_conversation_can_take_is_an_error_that_names_the_limit() -> None:
    @function_tool
    def book(length: int) -> str:
        return "x" * length

    assert (await run(book, f'{{"length": {MAX_OUTPUT_CHARS}}}')).outcome is Outcome.OK
    told = await run(book, f'{{"length": {MAX_OUTPUT_CHARS + 1}}}')
    assert (told.outcome, told.error and told.error.kind) == (Outcome.ERROR, "output_too_large")
    assert str(MAX_OUTPUT_CHARS) in told.output


def test_results_are_text_json_or_their_own_words() -> None:
    class Model(BaseModel):
        a: int = 1

    @dataclass
    class Data:
        b: str = "é"

    loop: list[Any] = []
    loop.append(loop)
    assert serialise("as it is") == "as it is"
    assert serialise(Model()) == '{"a": 1}'
    assert serialise(Data()) == '{"b": "é"}'
    assert serialise(None) == "null"
    assert serialise({1, 2}) == "{1, 2}"
    assert serialise(loop) == "[[...]]"


def test_a_timeout_error_names_tool_and_limit() -> None:
    assert str(ToolTimeoutError("t", 1.5)) == "Tool 't' timed out after 1.5 seconds."
