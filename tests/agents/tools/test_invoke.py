"""Running a tool: whatever it does, the model is told one thing."""

import asyncio
import contextvars
import functools
import gc
import json
import threading
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from voicebus import (
    FunctionTool,
    ModelBehaviorError,
    RunContextWrapper,
    ToolContext,
    ToolGuardrailFunctionOutput,
    ToolTimeoutError,
    background_result,
    function_tool,
    tool_input_guardrail,
    tool_output_guardrail,
)
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS, ToolOutcome, invoke
from voicebus.agents.tools.outputs import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from voicebus.agents.tools.results import serialise
from voicebus.contracts.tools import Outcome, ToolFailure


def context(tool: FunctionTool, arguments: str = "") -> ToolContext[Any]:
    return ToolContext(
        context={"guest": "Ada"},
        tool_name=tool.name,
        tool_call_id="call_1",
        tool_arguments=arguments,
        session="s1",
    )


async def run(tool: FunctionTool, arguments: str = "{}", limit: float = 5, *, vetted: bool = True) -> ToolOutcome:
    return await invoke(tool, context(tool, arguments), arguments, timeout=limit, vetted=vetted)


def kind(told: ToolOutcome) -> str | None:
    return None if told.error is None else told.error.kind


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


@pytest.mark.parametrize("strict", [True, False])
async def test_arguments_that_the_function_does_not_have_are_dropped(strict: bool) -> None:
    @function_tool(strict_mode=strict)
    def double(n: int) -> int:
        return 2 * n

    assert double.params_json_schema.get("additionalProperties") is (False if strict else None)
    told = await run(double, '{"n": 1, "m": 2, "self": 3}')
    assert (told.outcome, told.output) == (Outcome.OK, "2")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ('{"n": "many"}', "n: "),
        ("{}", "n: Field required"),
        ('{"n": NaN}', "NaN is no JSON number"),
        ('{"n": -Infinity}', "-Infinity is no JSON number"),
        ('{"n": 1e999}', "1e999 is beyond"),
        ('{"n": 1.5}', "n: "),
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

    async def by_hand(_: ToolContext[Any], arguments: str) -> str:
        return arguments

    assert (await run(nothing, "")).output == "done"
    assert (await run(FunctionTool("hand", "", {}, by_hand), " ")).output == "{}"


async def test_defaults_stand_in_for_what_the_model_leaves_out() -> None:
    @function_tool
    def plan(city: str, days: int = 3, *, json: str = "no") -> str:
        return f"{city} {days} {json}"

    assert (await run(plan, '{"city": "Rome"}')).output == "Rome 3 no"
    assert (await run(plan, '{"city": "Rome", "days": "4", "json": "yes"}')).output == "Rome 4 yes"


async def test_methods_callable_objects_and_wrapped_functions_are_called_with_their_object() -> None:
    class Desk:
        def __init__(self, name: str) -> None:
            self.name = name

        def ring(self, times: int) -> str:
            return self.name * times

        async def __call__(self, context: ToolContext[Any], times: int) -> str:
            return f"{context.tool_name} {self.ring(times)}"

    desk = Desk("ding")
    assert (await run(function_tool(desk.ring), '{"times": 2}')).output == "dingding"
    tool = function_tool(name_override="desk")(desk)
    assert (tool.is_async, (await run(tool, '{"times": 1}')).output) == (True, "desk ding")

    @functools.wraps(desk.ring)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return desk.ring(*args, **kwargs)

    assert (await run(function_tool(wrapper), '{"times": 1}')).output == "ding"


async def test_a_context_that_goes_by_name_only_is_given_by_name() -> None:
    @function_tool
    def look(*, context: ToolContext[Any], city: str) -> str:
        return f"{context.tool_name} {city}"

    assert (await run(look, '{"city": "Rome"}')).output == "look Rome"


async def test_a_tool_made_by_hand_gets_the_models_text_and_may_be_of_any_kind() -> None:
    async def later(given: ToolContext[Any], arguments: str) -> dict[str, str]:
        return {given.tool_name: arguments}

    def at_once(given: ToolContext[Any], arguments: str) -> Any:
        return later(given, arguments) if threading.current_thread() is not threading.main_thread() else "blocked"

    for function in (later, at_once, functools.partial(later)):
        told = await run(FunctionTool("hand", "By hand.", {}, function), '{"a": 1}')
        assert (told.outcome, told.value) == (Outcome.OK, {"hand": '{"a": 1}'})
        assert told.output == '{"hand": "{\\"a\\": 1}"}'


async def test_a_tool_made_by_hand_that_raises_is_told_as_any_other() -> None:
    async def boom(_: ToolContext[Any], arguments: str) -> str:
        raise ModelBehaviorError("city is missing") if arguments == "{}" else ValueError("no such guest")

    tool = FunctionTool("boom", "", {}, boom)
    told = await run(tool)
    assert (told.output.endswith("valid JSON. Error: city is missing"), kind(told)) == (True, "invalid_arguments")
    told = await run(tool, '{"a": 1}')
    assert (told.output.endswith("try again. Error: no such guest"), kind(told)) == (True, "raised")


async def test_a_raising_tool_becomes_output_by_default_or_by_its_own_function() -> None:
    def boom() -> str:
        raise ValueError("no such guest")

    assert (await run(function_tool(boom))).output == (
        "An error occurred while running the tool. Please try again. Error: no such guest"
    )

    async def late() -> str:
        raise TimeoutError

    assert (await run(function_tool(late))).output.endswith("Error: TimeoutError"), "one without a text of its own"

    async def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return f"Sorry: {error}"

    told = await run(function_tool(failure_error_function=own)(boom))
    assert (told.outcome, told.output) == (Outcome.ERROR, "Sorry: no such guest")
    assert kind(told) == "raised"


async def test_without_words_of_its_own_a_failure_is_the_programs_and_the_model_learns_only_that_it_failed() -> None:
    @function_tool(failure_error_function=None)
    def boom(guest: str) -> str:
        raise ValueError("no such guest")

    told = await run(boom, '{"guest": "Ada"}')
    assert told == ToolOutcome(
        Outcome.ERROR,
        "An error occurred while running the tool boom: the tool failed.",
        ToolFailure(kind="raised_unhandled", message="ValueError: no such guest"),
    )
    # what only the model can put right, it is told
    told = await run(boom)
    assert (told.output.endswith("Error: guest: Field required"), kind(told)) == (True, "raised_unhandled")


async def test_wrong_arguments_are_put_into_words_by_the_tools_own_function_too() -> None:
    def own(_: RunContextWrapper[Any], error: Exception) -> str:
        return f"{type(error).__name__}: {error}"

    @function_tool(failure_error_function=own)
    def look(city: str) -> str:
        return city

    told = await run(look)
    assert (told.output, kind(told)) == ("ModelBehaviorError: city: Field required", "invalid_arguments")


async def test_a_function_that_words_an_error_does_not_hold_up_the_loop() -> None:
    named: list[bool] = []

    def own(_: RunContextWrapper[Any], error: Exception) -> str:
        named.append(threading.current_thread() is threading.main_thread())
        return "sorry"

    @function_tool(failure_error_function=own, timeout=0.01, timeout_error_function=own)
    async def slow(fail: bool) -> str:
        if fail:
            raise ValueError("x")
        await asyncio.Event().wait()
        return "unreachable"

    assert [(await run(slow, f'{{"fail": {fail}}}')).output for fail in ("true", "false")] == ["sorry", "sorry"]
    assert named == [False, False]


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


async def test_an_error_without_a_text_fails_the_tool_by_its_type() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    @function_tool
    def sync() -> str:
        raise MuteError

    @function_tool
    async def running() -> str:
        raise MuteError

    for tool in (sync, running):
        assert (await run(tool)).output.endswith("Error: MuteError, which does not say of what")


async def test_an_error_says_no_more_than_a_result_may() -> None:
    @function_tool
    def boom() -> str:
        raise ValueError("x" * 1_000_000)

    told = await run(boom)
    assert (len(told.output), kind(told)) == (262_144, "raised")
    assert told.error is not None
    assert len(told.error.message) == 2_000


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


async def test_an_error_function_that_fails_is_reported_to_the_program() -> None:
    def failing(_: Any, __: Exception) -> str:
        raise KeyError("words")

    @function_tool(failure_error_function=failing)
    async def boom() -> str:
        raise ValueError("no")

    told = await run(boom)
    assert (told.output, kind(told)) == ("An error occurred while running the tool boom.", "raised_unhandled")
    assert told.error is not None
    assert told.error.message == "its error function failed: KeyError: 'words'"


async def test_a_timeout_function_that_fails_is_reported_and_the_timeout_told() -> None:
    def failing(_: Any, __: Exception) -> str:
        raise KeyError("words")

    @function_tool(timeout=0.01, timeout_error_function=failing)
    async def slow() -> str:
        await asyncio.Event().wait()
        return "unreachable"

    told = await run(slow)
    assert (told.outcome, kind(told)) == (Outcome.TIMEOUT, "timeout_raised")
    assert told.output == "Tool 'slow' timed out after 0.01 seconds."
    assert told.error is not None
    assert told.error.message == "its error function failed: KeyError: 'words'"


async def test_a_timeout_that_is_to_be_raised_is_marked_for_the_session() -> None:
    @function_tool(timeout=0.01, timeout_behavior="raise_exception")
    async def slow() -> str:
        await asyncio.Event().wait()
        return "unreachable"

    told = await run(slow)
    assert (told.outcome, kind(told)) == (Outcome.TIMEOUT, "timeout_raised")
    assert told.output == "Tool 'slow' timed out after 0.01 seconds."


async def test_a_tools_own_timeout_error_is_no_timeout_of_the_call() -> None:
    @function_tool
    async def fetch() -> str:
        raise TimeoutError("the database is slow")

    told = await run(fetch)
    assert (told.outcome, kind(told)) == (Outcome.ERROR, "raised")


async def test_what_a_tool_does_after_its_time_is_nobodys_concern(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    @function_tool
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise ValueError("while it was cleaning up")
        return ""

    assert (await run(stubborn, limit=0.01)).outcome is Outcome.TIMEOUT
    await asyncio.wait_for(ended.wait(), 5)
    gc.collect()
    assert "never retrieved" not in caplog.text


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


async def test_what_a_tool_returned_is_there_for_listeners_beside_the_text() -> None:
    @function_tool
    def guests() -> list[str]:
        return ["Ada"]

    told = await run(guests)
    assert (told.output, told.value, told.background) == ('["Ada"]', ["Ada"], False)


async def test_a_background_result_is_told_without_asking_for_an_answer() -> None:
    @function_tool
    async def note() -> Any:
        return background_result({"noted": True})

    told = await run(note)
    assert told == ToolOutcome(Outcome.OK, '{"noted": true}', value={"noted": True}, background=True)


async def test_a_result_is_written_as_the_type_that_it_must_be() -> None:
    class Stay(BaseModel):
        until: date
        nights: int = 1

    @function_tool(output_type=list[Stay])
    def stays(kind: int) -> Any:
        given: list[Any] = [[Stay(until=date(2026, 1, 2))], [{"until": "2026-01-02"}], [{"until": "soon"}]]
        return background_result(given[0]) if kind == 3 else given[kind]

    written = '[{"until": "2026-01-02", "nights": 1}]'
    told = await run(stays, '{"kind": 0}')
    assert (told.output, told.value) == (written, [Stay(until=date(2026, 1, 2))])
    assert (await run(stays, '{"kind": 1}')).output == written
    assert (await run(stays, '{"kind": 3}')).output == written
    told = await run(stays, '{"kind": 2}')
    assert (told.outcome, kind(told)) == (Outcome.ERROR, "raised")
    assert "the tool's result does not fit its output_type: 0.until: Input should be" in told.output
    assert await stays.on_invoke_tool(context(stays), '{"kind": 1}') == [{"until": "2026-01-02"}]


@tool_output_guardrail
def no_cards(data: Any) -> ToolGuardrailFunctionOutput:
    if data.output == {"card": "4111"}:
        return ToolGuardrailFunctionOutput.reject_content("The card is hidden.")
    if data.output == {"card": "stolen"}:
        return ToolGuardrailFunctionOutput.raise_exception()
    if data.output == {"card": "odd"}:
        raise KeyError("rule")
    return ToolGuardrailFunctionOutput.allow()


@function_tool(tool_output_guardrails=[no_cards])
async def card(number: str) -> Any:
    """Look a card up."""
    return {"card": number}


async def test_an_output_guardrail_replaces_what_the_model_must_not_read() -> None:
    assert (await run(card, '{"number": "none"}')).output == '{"card": "none"}'
    told = await run(card, '{"number": "4111"}')
    assert told == ToolOutcome(Outcome.OK, "The card is hidden.", value="The card is hidden.")


@pytest.mark.parametrize(
    ("number", "why"),
    [("stolen", "Tool output guardrail no_cards triggered tripwire"), ("odd", "no_cards failed: KeyError: 'rule'")],
)
async def test_an_output_guardrail_that_raises_fails_the_call_and_hides_the_output(number: str, why: str) -> None:
    told = await run(card, f'{{"number": "{number}"}}')
    assert (told.outcome, kind(told), told.value) == (Outcome.ERROR, "guardrail_raised", None)
    assert told.output == "An error occurred while running the tool card: a guardrail stopped it."
    assert told.error is not None
    assert why in told.error.message


async def test_a_call_that_nobody_vetted_is_judged_before_it_runs() -> None:
    ran: list[int] = []

    @tool_input_guardrail
    def limit(data: Any) -> ToolGuardrailFunctionOutput:
        if "13" in data.context.tool_arguments:
            return ToolGuardrailFunctionOutput.raise_exception()
        if "99" in data.context.tool_arguments:
            return ToolGuardrailFunctionOutput.reject_content("Too much.")
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(tool_input_guardrails=[limit])
    async def pay(amount: int) -> str:
        ran.append(amount)
        return "paid"

    assert (await run(pay, '{"amount": 1}', vetted=False)).output == "paid"
    told = await run(pay, '{"amount": 99}', vetted=False)
    assert (told.outcome, told.output, told.value) == (Outcome.OK, "Too much.", "Too much.")
    told = await run(pay, '{"amount": 13}', vetted=False)
    assert (told.outcome, kind(told)) == (Outcome.ERROR, "guardrail_raised")
    assert ran == [1]
    # the session's owner has asked them already
    assert (await run(pay, '{"amount": 99}')).output == "paid"


async def test_guardrails_and_tool_share_the_calls_time() -> None:
    @tool_input_guardrail
    async def endless(data: Any) -> ToolGuardrailFunctionOutput:
        await asyncio.Event().wait()
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(tool_input_guardrails=[endless])
    async def pay() -> str:
        return "paid"

    told = await run(pay, limit=0.01, vetted=False)
    assert (told.outcome, kind(told)) == (Outcome.ERROR, "guardrail_raised")


def test_results_are_text_json_or_their_own_words() -> None:
    class Model(BaseModel):
        a: int = 1

    @dataclass
    class Data:
        b: str = "é"

    @dataclass
    class Locked:
        lock: Any = field(default_factory=threading.Lock)

        def __repr__(self) -> str:
            return "locked"

    loop: list[Any] = []
    loop.append(loop)
    assert serialise("as it is") == "as it is"
    assert serialise(Model()) == '{"a": 1}'
    assert serialise(Data()) == '{"b": "é"}'
    assert serialise(None) == "null"
    assert serialise({1, 2}) == "{1, 2}"
    assert serialise(Locked()) == "locked"
    assert serialise(loop) == "[[...]]"


def test_an_output_in_a_form_of_openai_agents_is_told_as_its_json() -> None:
    assert serialise(ToolOutputText(text="é")) == '{"type": "text", "text": "é"}'
    assert json.loads(serialise(ToolOutputImage(image_url="https://x/"))) == {
        "type": "image", "image_url": "https://x/", "file_id": None, "detail": None,
    }  # fmt: skip
    assert json.loads(serialise(ToolOutputFileContent(file_id="f")))["file_id"] == "f"
    with pytest.raises(ValueError, match="image_url or file_id is needed"):
        ToolOutputImage()
    with pytest.raises(ValueError, match="file_data, file_url or file_id is needed"):
        ToolOutputFileContent(filename="a.txt")


async def test_what_a_function_says_that_it_returns_is_written_by_its_types() -> None:
    class Guest(BaseModel):
        name: str
        since: date

    guests = [Guest(name="Ann", since=date(2026, 1, 2))]

    @function_tool
    def typed() -> list[Guest]:
        """List the guests."""
        return guests

    @function_tool
    def untyped():  # type: ignore[no-untyped-def]
        """List the guests."""
        return guests

    @function_tool
    def odd() -> list[object]:
        """Return what has no JSON."""
        return [threading.Lock, 1]

    outcome = await run(typed)
    assert outcome.output == '[{"name": "Ann", "since": "2026-01-02"}]'
    assert outcome.value is guests, "listeners in this process see what was returned"
    assert (await run(untyped)).output == str(guests)
    assert (await run(odd)).output == str([threading.Lock, 1])


async def test_a_result_may_have_so_many_characters_and_no_more() -> None:
    @function_tool
    def long(length: int) -> str:
        """Say much."""
        return "x" * length

    context = ToolContext(None, tool_name="long", tool_call_id="c1")
    fits = await invoke(long, context, '{"length": 2000}', timeout=5, max_chars=2000)
    assert (fits.outcome, len(fits.output)) == (Outcome.OK, 2000)
    beyond = await invoke(long, context, '{"length": 2001}', timeout=5, max_chars=2000)
    assert beyond.error is not None
    assert beyond.error.kind == "output_too_large"
    assert "its result has 2001 characters, more than the 2000 that a conversation can take" in beyond.output


def test_a_timeout_error_names_tool_and_limit() -> None:
    assert str(ToolTimeoutError("t", 1.5)) == "Tool 't' timed out after 1.5 seconds."
