"""Approvals and a tool's input guardrails (parity 87-90, 2.15-2.18, 2.41)."""

import asyncio
from typing import Any

import pytest

from support.scripts import answering, outputs, sent
from support.stages import Stage
from voicebus import (
    FunctionTool,
    RealtimeAgent,
    ToolErrorFormatterArgs,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrailData,
    function_tool,
    tool_input_guardrail,
)
from voicebus.testing import audio_turn, function_call, function_calls

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


@function_tool(needs_approval=True)
async def refund(amount: int) -> str:
    """Refund money."""
    PAID.append(amount)
    return f"refunded {amount}"


def asked(number: int = 1, amount: int = 5) -> Any:
    return function_call("refund", {"amount": amount}, call_id=f"c{number}")


async def test_a_call_waits_until_it_is_approved_and_runs_once(stage: Stage) -> None:
    async with (
        answering(asked(), audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        event = await talk.until("tool_approval_required")
        assert (event["agent"], event["tool"], event["call_id"]) == ("Ada", "refund", "c1")
        assert event["arguments"] == '{"amount": 5}'
        await talk.until("agent_end")
        assert not talk.of("tool_start")
        assert PAID == []
        await talk.approve("c1")
        await talk.approve("c1")
        await talk.until("agent_end", output="Done.")
        await talk.approve("c1")
        assert outputs(server) == [("c1", "refunded 5")]
    assert PAID == [5]
    assert [kind for kind in talk.kinds() if kind.startswith("tool_")] == [
        "tool_approval_required",
        "tool_start",
        "tool_end",
    ]
    assert [record["approved"] for record in talk.recorded("tool_approval_decided")] == [True]


async def test_a_word_about_a_call_that_nobody_made_does_nothing(stage: Stage) -> None:
    async with (
        answering(audio_turn("Hi.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.approve("nobody's")
        await talk.reject("nobody's")
        await talk.say("hello")
        await talk.until("agent_end", output="Hi.")
    assert not talk.recorded("tool_approval_decided")
    assert not talk.of("error")


async def test_a_refused_call_ends_without_a_start_and_the_model_goes_on(stage: Stage) -> None:
    async with (
        answering(asked(), audio_turn("Sorry.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.reject("c1")
        await talk.until("agent_end", output="Sorry.")
        assert outputs(server) == [("c1", "Tool execution was not approved.")]
        assert sent(server, "response.create") == ["response.create"] * 2
    assert not talk.of("tool_start")
    assert talk.of("tool_end")[0]["output"] == "Tool execution was not approved."
    assert PAID == []


@pytest.mark.parametrize(("message", "expected"), [("Ask the desk.", "Ask the desk."), (None, "refund: refused")])
async def test_a_refusal_is_worded_by_its_message_or_else_by_the_program(
    stage: Stage, message: str | None, expected: str
) -> None:
    def words(args: ToolErrorFormatterArgs[Any]) -> str:
        assert (args.kind, args.call_id) == ("approval_rejected", "c1")
        assert args.default_message == "Tool execution was not approved."
        return f"{args.tool_name}: refused"

    async with (
        answering(asked(), audio_turn("Sorry.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server, {"tool_error_formatter": words}) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.reject("c1", message=message)
        await talk.until("agent_end", output="Sorry.")
        assert outputs(server) == [("c1", expected)]


async def test_a_word_for_always_holds_for_the_tool_in_this_session(stage: Stage) -> None:
    turns = [asked(1), audio_turn("One."), asked(2), audio_turn("Two.")]
    async with (
        answering(*turns) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.approve("c1", always=True)
        await talk.until("agent_end", output="One.")
        await talk.say("more")
        await talk.until("agent_end", output="Two.")
    assert len(talk.of("tool_approval_required")) == 1
    assert PAID == [5, 5]


@function_tool(name_override="refund", needs_approval=True)
async def without_words(amount: int) -> str:
    PAID.append(amount)
    return f"refunded {amount}"


async def test_a_word_for_always_holds_for_another_agents_tool_that_is_the_same_one_without_a_description(
    stage: Stage,
) -> None:
    agent = RealtimeAgent[Any]("Ada", tools=[without_words], handoffs=[RealtimeAgent("Bob", tools=[without_words])])
    turns = [asked(1), audio_turn("One."), function_call("transfer_to_bob"), asked(2), audio_turn("Two.")]
    async with answering(*turns) as server, stage.conversation(agent, server) as talk:
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.approve("c1", always=True)
        await talk.until("agent_end", output="One.")
        await talk.say("Bob, more")
        await talk.until("agent_end", output="Two.")
    assert len(talk.of("tool_approval_required")) == 1
    assert PAID == [5, 5]


async def test_a_refusal_for_always_holds_with_its_message(stage: Stage) -> None:
    turns = [asked(1), audio_turn("One."), asked(2), audio_turn("Two.")]
    async with (
        answering(*turns) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.reject("c1", always=True, message="Never.")
        await talk.until("agent_end", output="One.")
        await talk.say("more")
        await talk.until("agent_end", output="Two.")
        assert outputs(server) == [("c1", "Never."), ("c2", "Never.")]
    assert len(talk.of("tool_approval_required")) == 1


async def test_a_policy_is_asked_with_the_arguments_and_the_call(stage: Stage) -> None:
    async def dear(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        assert call_id in ("c1", "c2")
        return bool(arguments["amount"] > 10)

    @function_tool(name_override="refund", needs_approval=dear)
    async def by_amount(amount: int) -> str:
        """Refund money."""
        return f"refunded {amount}"

    async with (
        answering(asked(1, 5), audio_turn("One."), asked(2, 50)) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[by_amount]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("agent_end", output="One.")
        assert not talk.of("tool_approval_required")
        await talk.say("more")
        await talk.until("tool_approval_required", call_id="c2")


@pytest.mark.parametrize("arguments", ["", "no json", "[1]", '{"amount": NaN}', '{"amount": Infinity}'])
async def test_a_policy_that_cannot_see_the_arguments_lets_a_person_decide(stage: Stage, arguments: str) -> None:
    async def never(context: Any, given: dict[str, Any], call_id: str) -> bool:
        return False

    @function_tool(name_override="refund", needs_approval=never)
    async def by_policy(amount: float = 1) -> str:
        """Refund money."""
        PAID.append(1)
        return "refunded"

    async with (
        answering(function_call("refund", arguments, call_id="c1")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[by_policy]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required", call_id="c1")
    assert PAID == []


def guarded(
    verdicts: list[ToolGuardrailFunctionOutput], judged: list[str], *, needs_approval: bool = False
) -> FunctionTool:
    """`refund` behind a guardrail that gives these verdicts, one per call of it."""

    @tool_input_guardrail
    def guard(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        judged.append(data.context.tool_arguments)
        return verdicts.pop(0) if len(verdicts) > 1 else verdicts[0]

    @function_tool(name_override="refund", tool_input_guardrails=[guard], needs_approval=needs_approval)
    async def pay(amount: int) -> str:
        """Refund money."""
        PAID.append(amount)
        return f"refunded {amount}"

    return pay


async def test_an_input_guardrail_refuses_a_call_with_its_message(stage: Stage) -> None:
    judged: list[str] = []
    tool = guarded([ToolGuardrailFunctionOutput.reject_content("Not today.")], judged)
    async with (
        answering(asked(), audio_turn("Sorry.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[tool]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("agent_end", output="Sorry.")
        assert outputs(server) == [("c1", "Not today.")]
    assert not talk.of("tool_start")
    assert [event["output"] for event in talk.of("tool_end")] == ["Not today."]
    assert judged == ['{"amount": 5}']
    assert PAID == []


async def test_an_input_guardrail_that_raises_an_exception_is_an_error_and_the_call_goes_on(stage: Stage) -> None:
    tool = guarded([ToolGuardrailFunctionOutput.raise_exception()], [])
    async with (
        answering(asked(), audio_turn("Sorry.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[tool]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("error")
        await talk.until("agent_end", output="Sorry.")
    assert PAID == []


async def test_guardrails_run_after_the_approval_by_default(stage: Stage) -> None:
    judged: list[str] = []
    tool = guarded([ToolGuardrailFunctionOutput.allow()], judged, needs_approval=True)
    async with (
        answering(asked(), audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[tool]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        assert judged == []
        await talk.approve("c1")
        await talk.until("agent_end", output="Done.")
    assert len(judged) == 1
    assert PAID == [5]


@pytest.mark.parametrize("passes", [True, False], ids=["allowed", "refused"])
async def test_guardrails_may_be_asked_before_the_approval_and_are_asked_again_after_it(
    stage: Stage, passes: bool
) -> None:
    judged: list[str] = []
    allow, refuse = ToolGuardrailFunctionOutput.allow(), ToolGuardrailFunctionOutput.reject_content("Not today.")
    tool = guarded([allow if passes else refuse], judged, needs_approval=True)
    config: Any = {"tool_execution": {"pre_approval_tool_input_guardrails": True}}
    async with (
        answering(asked(), audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[tool]), server, config) as talk,
    ):
        await talk.say("my money")
        if passes:
            await talk.until("tool_approval_required")
            await talk.approve("c1")
        await talk.until("agent_end", output="Done.")
        assert outputs(server) == [("c1", "refunded 5" if passes else "Not today.")]
    assert len(judged) == (2 if passes else 1)
    assert len(talk.of("tool_approval_required")) == (1 if passes else 0)


async def test_a_call_that_is_repeated_while_it_waits_is_asked_about_once(stage: Stage) -> None:
    async with (
        answering(asked(), audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.until("agent_end")
        await server.connections[0].emit(asked())
        await talk.until("agent_end")
        await talk.approve("c1")
        await talk.until("agent_end", output="Done.")
        assert outputs(server) == [("c1", "refunded 5")]
    assert len(talk.of("tool_approval_required")) == 1
    assert PAID == [5]


async def test_the_first_word_about_a_call_counts(stage: Stage) -> None:
    async with (
        answering(asked(), audio_turn("Sorry.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.reject("c1", message="No.")
        await talk.approve("c1")
        await talk.until("agent_end", output="Sorry.")
        assert outputs(server) == [("c1", "No.")]
    assert PAID == []


async def test_calls_that_hold_the_model_up_may_be_approved_too(stage: Stage) -> None:
    async with (
        answering(asked(), audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[refund]), server, {"async_tool_calls": False}) as talk,
    ):
        await talk.say("my money")
        await talk.until("tool_approval_required")
        await talk.approve("c1")
        await talk.until("agent_end", output="Done.")
    assert PAID == [5]


@pytest.mark.parametrize(
    ("approved", "needed"),
    [(True, True), (False, True), (False, False)],
    ids=["approved", "refused", "needed by nobody"],
)
async def test_a_word_for_always_that_comes_while_a_policy_thinks_counts(
    stage: Stage, approved: bool, needed: bool
) -> None:
    asked_about, gate = asyncio.Event(), asyncio.Event()

    async def policy(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        if call_id == "c2":
            asked_about.set()
            await gate.wait()
            return needed
        return True

    @function_tool(name_override="refund", needs_approval=policy)
    async def by_policy(amount: int) -> str:
        """Refund money."""
        PAID.append(amount)
        return f"refunded {amount}"

    calls = function_calls(("refund", {"amount": 1}, "c1"), ("refund", {"amount": 2}, "c2"))
    async with (
        answering(calls, audio_turn("Done.")) as server,
        stage.conversation(RealtimeAgent("Ada", tools=[by_policy]), server) as talk,
    ):
        await talk.say("my money, twice")
        await talk.until("tool_approval_required", call_id="c1")
        await asyncio.wait_for(asked_about.wait(), 10)
        await (talk.approve("c1", always=True) if approved else talk.reject("c1", always=True, message="No."))
        await talk.until("tool_end", call_id="c1")
        gate.set()
        await talk.until("agent_end", output="Done.")
        told = dict(outputs(server))
    assert told == ({"c1": "refunded 1", "c2": "refunded 2"} if approved else {"c1": "No.", "c2": "No."})
    assert sorted(PAID) == ([1, 2] if approved else [])
    assert [event["call_id"] for event in talk.of("tool_approval_required")] == ["c1"]
