"""What a run config says holds in every way to run a session."""

from typing import Any, Final

import pytest

from support.scripts import outputs, session_update
from support.stages import Stage
from voicebus import GuardrailFunctionOutput, OutputGuardrail, RealtimeAgent, RealtimeRunConfig, function_tool
from voicebus.testing import ScriptedRealtimeServer, ServerStep, function_call, open_turn, text_turn

CREATE: Final = "response.create"


def test_a_run_config_has_the_keys_that_programs_know() -> None:
    known = {
        "model_settings",
        "output_guardrails",
        "guardrails_settings",
        "tracing_disabled",
        "async_tool_calls",
        "tool_execution",
        "tool_error_formatter",
    }
    assert known <= RealtimeRunConfig.__optional_keys__
    assert not RealtimeRunConfig.__required_keys__


async def test_model_settings_are_the_base_that_the_agent_stands_on(stage: Stage) -> None:
    config: RealtimeRunConfig = {"model_settings": {"instructions": "Base.", "voice": "sage", "speed": 1.5}}
    agent = RealtimeAgent[Any](name="clerk", instructions="Help.")
    async with ScriptedRealtimeServer() as server, stage.conversation(agent, server, config):
        update = await server.wait_for("session.update")
    assert update["session"]["instructions"] == "Help."
    assert update["session"]["audio"]["output"]["voice"] == "sage"
    assert update["session"]["audio"]["output"]["speed"] == 1.5


async def test_instructions_tools_and_handoffs_stand_in_for_those_that_an_agent_does_not_name(stage: Stage) -> None:
    @function_tool
    async def weather() -> str:
        """Tell the weather."""
        return "clear"

    base: Any = {"instructions": "Base.", "tools": [weather], "handoffs": [RealtimeAgent("Bob", instructions="Bob.")]}
    script = [
        ServerStep(CREATE, function_call("weather", call_id="c1")),
        ServerStep(CREATE, function_call("transfer_to_bob", call_id="h1")),
        ServerStep(CREATE, text_turn("Bob here.")),
    ]
    async with (
        ScriptedRealtimeServer(script) as server,
        stage.conversation(RealtimeAgent("Ada"), server, {"model_settings": base}) as talk,
    ):
        await talk.say("the weather, then Bob")
        ended = await talk.until("agent_end", output="Bob here.")
        first, last = session_update(server, 0), session_update(server)
    assert (first["instructions"], last["instructions"], ended["agent"]) == ("Base.", "Bob.", "Bob")
    assert [tool["name"] for tool in first["tools"]] == ["weather", "transfer_to_bob"]
    assert outputs(server)[0] == ("c1", "clear")


@pytest.mark.parametrize("words", [None, 7, ValueError("no words")], ids=["None", "no text", "it raises"])
async def test_where_a_formatter_has_no_words_the_default_is_told(stage: Stage, words: Any) -> None:
    def formatter(_: Any) -> Any:
        if isinstance(words, Exception):
            raise words
        return words

    script = [ServerStep(CREATE, function_call("nothing", call_id="c1")), ServerStep(CREATE, text_turn("Sorry."))]
    async with (
        ScriptedRealtimeServer(script) as server,
        stage.conversation(RealtimeAgent("Ada"), server, {"tool_error_formatter": formatter}) as talk,
    ):
        await talk.say("go")
        await talk.until("agent_end", output="Sorry.")
    assert outputs(server) == [("c1", "Tool nothing not found")]


async def test_the_length_between_two_judgements_may_be_chosen(stage: Stage) -> None:
    async def short(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered="no" in text)

    config: RealtimeRunConfig = {
        "output_guardrails": [OutputGuardrail(short, name="short")],
        "guardrails_settings": {"debounce_text_length": 5},
    }
    # The answer never ends by itself: what trips is the text so far.
    script = [ServerStep(CREATE, open_turn("oh no no")), ServerStep(CREATE, text_turn("Well."))]
    async with (
        ScriptedRealtimeServer(script) as server,
        stage.conversation(RealtimeAgent(name="clerk"), server, config) as talk,
    ):
        await talk.say("hello")
        tripped = await talk.until("guardrail_tripped")
        await server.wait_for(CREATE, 2)
    assert tripped["message"] in {"oh no ", "oh no no"}


async def test_tracing_is_asked_for_by_a_second_update_unless_it_is_disabled(stage: Stage) -> None:
    script = [ServerStep(CREATE, text_turn("Hello."))]
    asked: dict[bool, list[Any]] = {}
    for disabled in (False, True):
        async with (
            ScriptedRealtimeServer(script) as server,
            stage.conversation(RealtimeAgent(name="clerk"), server, {"tracing_disabled": disabled}) as talk,
        ):
            await talk.say("hello")
            await talk.until("agent_end")
        updates = [update["session"] for update in server.received("session.update")]
        assert "tracing" not in updates[0]
        asked[disabled] = [update["tracing"] for update in updates[1:] if "tracing" in update]
    assert asked == {False: ["auto"], True: []}
