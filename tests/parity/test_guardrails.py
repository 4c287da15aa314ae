"""Guardrails on what the model says (parity J), and that records of input guardrails are no output trips."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from support.scripts import answering, sent
from support.stages import IN_PROCESS, Conversation, Stage
from support.waiting import wait_until
from voicebus import (
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    OutputGuardrailResult,
    RealtimeAgent,
    RealtimeRunConfig,
    output_guardrail,
)
from voicebus.testing import (
    ScriptedRealtimeServer,
    ServerStep,
    audio_turn,
    end_turn,
    function_call,
    open_turn,
    text_turn,
)

LONG = "we never speak of the secret plan at this desk"


def no_secrets(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"seen": len(text)}, "secret" in text)


def guarded(*guardrails: OutputGuardrail[Any]) -> RealtimeAgent[Any]:
    return RealtimeAgent("Ada", output_guardrails=list(guardrails) or [OutputGuardrail(no_secrets, name="secrets")])


def eagerly(letters: int = 10) -> RealtimeRunConfig:
    return {"guardrails_settings": {"debounce_text_length": letters}}


def told_off(server: ScriptedRealtimeServer) -> list[str]:
    """The texts of the user messages that the server was sent."""
    items = [event["item"] for event in server.received("conversation.item.create")]
    parts: list[Mapping[str, Any]] = [part for item in items for part in item.get("content", ())]
    return [part["text"] for part in parts if part["type"] == "input_text"]


def guardrails(event: Mapping[str, Any]) -> list[str]:
    """Which tripped."""
    return list(event["guardrails"])


async def say(talk: Conversation, text: str = "hello") -> None:
    await talk.say(text)
    await talk.until("guardrail_tripped")


async def test_a_decorated_guardrail_trips_and_says_what_it_found(stage: Stage) -> None:
    @output_guardrail
    def secrets(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput("found", "secret" in text)

    async with answering(text_turn(LONG), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(secrets), server) as talk:
            await say(talk)
            await talk.until("agent_end")
    (tripped,) = talk.of("guardrail_tripped")
    assert tripped["message"] == LONG
    assert guardrails(tripped) == ["secrets"]


class SaidTwice(OutputGuardrail[Any]):
    """Judges by its own `run`, which asks its function as well."""

    async def run(self, context: Any, agent: Any, agent_output: Any) -> OutputGuardrailResult:
        result = await super().run(context, agent, agent_output)
        found = GuardrailFunctionOutput([result.output.output_info, "run"], agent_output.count("secret") > 1)
        return dataclasses.replace(result, output=found)


async def test_a_class_of_ones_own_judges_by_its_own_run(stage: Stage) -> None:
    def counted(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(len(text), False)

    said = "a secret is no secret"
    async with answering(text_turn("one secret"), text_turn(said), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(SaidTwice(counted, name="twice")), server) as talk:
            await talk.say("hello")
            await talk.until("agent_end")
            await say(talk, "and now?")
            await talk.until("agent_end", output="Sorry.")
    (tripped,) = talk.of("guardrail_tripped")
    assert (tripped["message"], guardrails(tripped), tripped["info"]) == (
        said,
        ["twice"],
        {"twice": [len(said), "run"]},
    )


async def test_the_agents_and_the_run_configs_guardrails_run_and_one_that_raises_does_not_stop_the_others(
    stage: Stage,
) -> None:
    def broken(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        raise RuntimeError("out of order")

    def plans(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, "plan" in text)

    shared = OutputGuardrail(no_secrets, name="secrets")
    agent = guarded(OutputGuardrail(broken, name="broken"), shared)
    config: RealtimeRunConfig = {"output_guardrails": [shared, OutputGuardrail(plans, name="plans")]}
    turns = text_turn("It is a secret."), text_turn("Sorry."), text_turn("It is a plan."), text_turn("Sorry again.")
    async with answering(*turns) as server, stage.conversation(agent, server, config) as talk:
        await say(talk)
        await talk.until("agent_end", output="Sorry.")
        await say(talk)
        await talk.until("agent_end", output="Sorry again.")
    names = [name for event in talk.of("guardrail_tripped") for name in guardrails(event)]
    assert names == ["secrets", "plans"], "each once, and the broken one lets pass"


async def test_an_answer_is_judged_while_it_goes_on_and_stopped(stage: Stage) -> None:
    gate = asyncio.Event()
    async with answering(open_turn(LONG, bytes(4800)), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(once_opened(gate)), server, eagerly()) as talk:
            await talk.say("hello")
            await talk.until("audio")
            gate.set()
            await talk.until("guardrail_tripped")
            await server.wait_for("response.create", 2)
            await wait_until(lambda: len(talk.of("agent_end")) == 2, description="the answer to the feedback")
    assert talk.of("guardrail_tripped")[0]["message"].startswith("we never")
    assert len(server.received("response.cancel")) == 1
    assert told_off(server) == ["hello", "guardrail triggered: secrets"]
    kinds = talk.kinds()
    assert kinds.index("guardrail_tripped") < kinds.index("audio_interrupted") < kinds.index("agent_end")


async def test_what_the_model_is_told_of_a_trip_is_no_word_of_the_users_in_the_history(stage: Stage) -> None:
    async with answering(text_turn(LONG), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(), server) as talk:
            await say(talk)
            await wait_until(lambda: len(talk.of("agent_end")) == 2, description="the answer to the feedback")
    assert "guardrail triggered: secrets" in told_off(server)
    said = [event["item"] for event in talk.of("history_added")]
    assert [item["role"] for item in said] == ["user", "assistant", "assistant"]


async def test_a_short_answer_and_the_tail_are_judged_at_the_end(stage: Stage) -> None:
    async with answering(text_turn("a secret"), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(), server) as talk:
            await say(talk)
            await server.wait_for("response.create", 2)
    assert [event["message"] for event in talk.of("guardrail_tripped")] == ["a secret"]


@pytest.mark.parametrize("spoken", [True, False])
async def test_both_what_is_spoken_and_what_is_written_is_judged(stage: Stage, spoken: bool) -> None:
    turn = audio_turn(LONG, bytes(480)) if spoken else text_turn(LONG)
    async with answering(turn, text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(), server) as talk:
            await say(talk)
            await server.wait_for("response.create", 2)
    assert talk.of("guardrail_tripped")[0]["message"] == LONG


async def test_a_written_answer_is_cancelled_without_an_interruption_of_audio(stage: Stage) -> None:
    async with answering(open_turn(LONG, kind="text"), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(), server, eagerly()) as talk:
            await say(talk)
            await server.wait_for("response.create", 2)
    assert len(server.received("response.cancel")) == 1
    assert server.received("conversation.item.truncate") == []
    assert talk.of("audio_interrupted") == []


async def test_an_answer_that_has_ended_is_silenced_and_the_model_still_told(stage: Stage) -> None:
    gate = asyncio.Event()
    async with answering(audio_turn("a secret", bytes(48_000)), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(once_opened(gate)), server) as talk:
            await talk.say("hello")
            await talk.until("agent_end")
            gate.set()
            await server.wait_for("response.create", 2)
    assert server.received("response.cancel") == []
    assert told_off(server)[-1] == "guardrail triggered: secrets"
    assert len(talk.of("audio_interrupted")) == 1


async def test_one_answer_trips_once_and_nothing_of_it_is_heard_afterwards(stage: Stage) -> None:
    async with answering(open_turn(LONG, bytes(960)), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(), server, eagerly()) as talk:
            await say(talk)
            heard = len(talk.of("audio"))
            await server.wait_for("response.create", 2)
    assert len(talk.of("guardrail_tripped")) == 1
    assert len(talk.of("audio")) == heard


async def test_a_hint_of_policy_is_told_to_the_model(stage: Stage) -> None:
    guardrail = OutputGuardrail(no_secrets, name="secrets", policy_hint="Speak of the weather.")
    async with answering(text_turn(LONG), text_turn("Sorry.")) as server:
        async with stage.conversation(guarded(guardrail), server) as talk:
            await say(talk)
            await server.wait_for("response.create", 2)
    assert told_off(server)[-1] == "guardrail triggered: secrets. Policy: Speak of the weather."


async def test_judging_may_wait_for_the_end(stage: Stage) -> None:
    config: RealtimeRunConfig = {"guardrails_settings": {"debounce_text_length": -1}}
    steps = [ServerStep("response.create", open_turn(LONG)), ServerStep("response.create", text_turn("Sorry."))]
    async with ScriptedRealtimeServer(steps) as server:
        async with stage.conversation(guarded(), server, config) as talk:
            await talk.say("hello")
            await talk.until("audio")
            assert talk.of("guardrail_tripped") == []
            await server.connections[0].emit(end_turn(" anyway"))
            tripped = await talk.until("guardrail_tripped")
    assert tripped["message"] == f"{LONG} anyway"


async def test_a_guardrail_may_hold_an_answer_back_until_it_was_judged(stage: Stage) -> None:
    guardrail = OutputGuardrail(no_secrets, name="secrets", mode="hold")
    async with answering(audio_turn("a secret", bytes(960)), audio_turn("Sorry.", bytes(960))) as server:
        async with stage.conversation(guarded(guardrail), server) as talk:
            await say(talk)
            await talk.until("audio")
            await talk.until("agent_end")
    said = [event["delta"] for event in talk.of("transcript_delta")]
    assert "".join(said) == "Sorry."


async def test_a_trip_over_what_the_user_said_is_one_event(stage: Stage) -> None:
    agent = RealtimeAgent("Ada", input_guardrails=[InputGuardrail(no_secrets, name="secrets", mode="hold")])
    async with answering(text_turn("Let us speak of something else.")) as server:
        async with stage.conversation(agent, server) as talk:
            await talk.say("tell me the secret")
            await talk.until("input_guardrail_tripped")
            await talk.until("agent_end")
    assert len(talk.of("input_guardrail_tripped")) == 1
    assert sent(server, "response.create") == ["response.create"]
    if stage.name == IN_PROCESS:
        assert talk.of("guardrail_tripped") == []
        records = talk.recorded("guardrail_tripped")
    else:  # clients are given the records, too, which say what they are about
        records = talk.of("guardrail_tripped")
    assert [record["stage"] for record in records] == ["input"]


def once_opened(gate: asyncio.Event) -> OutputGuardrail[Any]:
    """Trips over a secret, when the test lets it answer."""

    async def secrets(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        if "secret" in text:
            await gate.wait()
        return GuardrailFunctionOutput(None, "secret" in text)

    return OutputGuardrail(secrets, name="secrets")


async def test_a_trip_after_a_newer_answer_began_leaves_that_alone(stage: Stage) -> None:
    gate = asyncio.Event()
    turns = audio_turn("a secret", bytes(48_000)), open_turn("Something else", bytes(960))
    async with answering(*turns) as server, stage.conversation(guarded(once_opened(gate)), server) as talk:
        await talk.say("hello")
        await talk.until("agent_end")
        await talk.say("and now?")
        await talk.until("transcript_delta", text="Something else")
        gate.set()
        await talk.until("guardrail_tripped")
        await server.connections[0].emit(end_turn())
        await talk.until("agent_end")
    assert told_off(server) == ["hello", "and now?"]
    assert server.received("response.cancel") == []
    assert len(server.received("response.create")) == 2


async def test_an_answer_is_judged_by_the_guardrails_of_the_agent_that_began_it(stage: Stage) -> None:
    agent = guarded()
    agent.handoffs.append(RealtimeAgent("Bob"))
    call = function_call("transfer_to_bob", preamble="a secret")
    async with answering(call, text_turn("Bob here, a secret too."), text_turn("Bob.")) as server:
        async with stage.conversation(agent, server) as talk:
            await say(talk)
            await wait_until(
                lambda: "Bob" in [end["agent"] for end in talk.of("agent_end")], description="Bob's answer"
            )
    assert [event["message"] for event in talk.of("guardrail_tripped")] == ["a secret"]


async def test_what_a_trip_would_say_is_dropped_where_an_answer_is_asked_for_already(stage: Stage) -> None:
    gate = asyncio.Event()
    turns = open_turn("a secret thing", kind="text"), text_turn("Next.")
    async with answering(*turns) as server:
        async with stage.conversation(guarded(once_opened(gate)), server, eagerly(5)) as talk:
            await talk.say("hello")
            await talk.until("transcript_delta", text="a secret thing")
            await talk.say("and now?")
            await server.wait_for("conversation.item.create", 2)
            gate.set()
            await talk.until("guardrail_tripped")
            await talk.until("agent_end", output="Next.")
    assert told_off(server) == ["hello", "and now?"]
    assert len(server.received("response.cancel")) == 1
    assert len(server.received("response.create")) == 2


async def test_a_long_delta_is_caught_up_with_by_those_after_it(stage: Stage) -> None:
    judged: list[int] = []

    def measure(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        judged.append(len(text))
        return GuardrailFunctionOutput(None, False)

    words = "x" * 450 + " " + " ".join("yyyyyy")  # deltas are words with their spaces: 451, then five of 2, then 1
    async with answering(open_turn(words, kind="text")) as server:
        agent = guarded(OutputGuardrail(measure))
        async with stage.conversation(agent, server, eagerly(100)) as talk:
            await talk.say("hello")
            await talk.until("transcript_delta", text=words)
            await server.connections[0].emit(end_turn())
            await talk.until("agent_end")
            await wait_until(lambda: len(words) in judged, description="the whole to be judged")
    assert set(judged) <= {451, 453, 455, 457, len(words)}, "four checks catch up with four hundred characters"


@pytest.mark.parametrize(("policy", "stops"), [("open", False), ("closed", True)])
async def test_a_guardrail_that_raises_follows_its_policy(stage: Stage, policy: Any, stops: bool) -> None:
    def broken(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        if text == "One.":
            raise RuntimeError("out of order")
        return GuardrailFunctionOutput(None, False)

    await _judged_or_not(stage, OutputGuardrail(broken, name="secrets", on_error=policy), stops)


@pytest.mark.parametrize(("policy", "stops"), [("open", False), ("closed", True)])
async def test_a_guardrail_that_nobody_answers_for_follows_its_policy(stage: Stage, policy: Any, stops: bool) -> None:
    async def hangs(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        if text == "One.":
            await asyncio.Event().wait()
        return GuardrailFunctionOutput(None, False)

    guardrail = OutputGuardrail(hangs, name="secrets", on_unavailable=policy, budget_ms=1000)
    await _judged_or_not(stage, guardrail, stops)


async def _judged_or_not(stage: Stage, guardrail: OutputGuardrail[Any], stops: bool) -> None:
    """The guardrail cannot judge the answer "One.": that is an error, and a trip where its policy says so."""
    async with answering(text_turn("One."), text_turn("Two."), text_turn("Three.")) as server:
        async with stage.conversation(guarded(guardrail), server) as talk:
            await talk.say("hello")
            await talk.until("error")
            await talk.say("go on") if not stops else None
            await talk.until("agent_end", output="Two.")
    assert [guardrails(event) for event in talk.of("guardrail_tripped")] == ([["secrets"]] if stops else [])
    assert told_off(server)[-1] == ("guardrail triggered: secrets" if stops else "go on")
