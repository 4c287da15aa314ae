"""Directives, the scripted brain and what tool_choice makes of an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from voicebus.errors import SettingsError
from voicebus_services.model_simulator.brains import BrainContext, BrainReply, Call, Fault, Say
from voicebus_services.model_simulator.scripted_brain import DirectedBrain, Scenario, ScriptedBrain
from voicebus_services.model_simulator.tool_choice import obeying


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def spoken(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": text}]}


def assistant(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": text}]}


CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


def output(text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "c", "output": text}


def context(*items: dict[str, Any], tools: tuple[dict[str, Any], ...] = (), choice: Any = "auto") -> BrainContext:
    return BrainContext("", tools, choice, items)


async def answer(*items: dict[str, Any], scenario: Scenario | None = None) -> BrainReply:
    return await DirectedBrain(ScriptedBrain(scenario)).respond(context(*items))


async def test_without_directives_it_repeats_what_it_was_told() -> None:
    assert await answer(user("good day")) == BrainReply((Say("You said: good day"),))
    assert await answer(spoken("good day")) == BrainReply((Say("You said: good day"),))


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        (
            'Be brief.\n\nSay exactly this to the user: "One \\"quick\\" moment."',
            'One "quick" moment.',
        ),
        ('A tool runs. Say in one sentence how far it is: "3 of 7"', "3 of 7"),
        ('Say hello: "world" and be brief.', None),
        ("Say hello.", None),
        ('Say this: ""', None),
    ],
)
async def test_what_the_instructions_of_a_response_want_said_is_said(instructions: str, said: str | None) -> None:
    reply = await DirectedBrain(ScriptedBrain()).respond(BrainContext(instructions, (), "auto", (user("[[say: x]]"),)))
    assert reply == BrainReply((Say(said or "x"),))


async def test_outputs_are_said_verbatim() -> None:
    reply = await answer(user("look"), CALL, output('{"found": "keys"}'), output("42"))
    (said,) = reply.outputs
    assert isinstance(said, Say)
    assert '{"found": "keys"}' in said.text
    assert "42" in said.text


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("[[say: hello]]", BrainReply((Say("hello"),))),
        ('please [[call: f {"a": 1}]] thanks', BrainReply((Call("f", '{"a": 1}'),))),
        ("[[call: f]]", BrainReply((Call("f", "{}"),))),
        ('[[call: f {"a": [[1], [2]]}]]', BrainReply((Call("f", '{"a": [[1], [2]]}'),))),
        ("[[call: f {not json]]", BrainReply((Call("f", "{not json"),))),
        ('[[call: f {"a": [1}]]', BrainReply((Call("f", '{"a": [1}'),))),
        ("[[say: a]] [[call: f]] [[say: b]]", BrainReply((Say("a"), Call("f", "{}"), Say("b")))),
        ("[[fault: silence]]", BrainReply(fault=Fault("silence"))),
        ("[[fault: failed rate_limit_exceeded]]", BrainReply(fault=Fault("failed", "rate_limit_exceeded"))),
        ("[[delay: 200ms]] [[say: x]]", BrainReply((Say("x"),), delay_ms=200)),
        ("[[delay: 1.5s]] [[say: x]]", BrainReply((Say("x"),), delay_ms=1500)),
    ],
)
async def test_directives_are_carried_out_in_order(text: str, reply: BrainReply) -> None:
    assert await answer(user(text)) == reply


async def test_a_directive_about_how_leaves_what_to_the_brain() -> None:
    reply = await answer(user("[[delay: 200ms]]"))
    assert reply == BrainReply((Say("You said: [[delay: 200ms]]"),), delay_ms=200)


async def test_next_belongs_to_the_response_after_the_outputs() -> None:
    told = user("[[call: look]] [[next]] [[call: ask]] [[next]] [[say: it was {outputs}]]")
    assert (await answer(told)).outputs == (Call("look", "{}"),)
    assert (await answer(told, CALL, output("a"))).outputs == (Call("ask", "{}"),)
    assert (await answer(told, CALL, output("a"), CALL, output("b"))).outputs == (Say("it was a; b"),)


async def test_only_the_last_user_turn_directs() -> None:
    reply = await answer(user("[[say: old]]"), assistant("old"), user("new"))
    assert reply.outputs == (Say("You said: new"),)


@pytest.mark.parametrize(
    "text", ["[[say: open", "[[unknown: x]]", "[[", "]]", "[[fault: nonsense]]", "[[delay: soon]]"]
)
async def test_broken_directives_are_plain_text(text: str) -> None:
    assert (await answer(user(text))).outputs == (Say(f"You said: {text}"),)


def scenario(tmp_path: Path, content: Any) -> Scenario:
    path = tmp_path / "scenario.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Scenario.load(path)


async def test_a_sequence_answers_turn_by_turn_and_sees_outputs(tmp_path: Path) -> None:
    script = scenario(
        tmp_path,
        {
            "turns": [
                {"reply": [{"say": "One moment."}, {"call": "look", "arguments": {"where": "here"}}]},
                {"reply": [{"delay_ms": 50}, {"say": "Found: {outputs}"}]},
                {"reply": [{"fault": "failed", "code": "insufficient_quota"}]},
            ]
        },
    )
    asked = user("look")
    first = await answer(asked, scenario=script)
    assert first.outputs == (Say("One moment."), Call("look", '{"where": "here"}'))
    history = [asked, assistant("One moment."), CALL, output("keys")]
    assert await answer(*history, scenario=script) == BrainReply((Say("Found: keys"),), delay_ms=50)
    history += [assistant("Found: keys"), user("and now?")]
    assert (await answer(*history, scenario=script)).fault == Fault("failed", "insufficient_quota")
    history += [assistant(""), user("more")]
    assert (await answer(*history, scenario=script)).outputs == (Say("You said: more"),)


async def test_matching_answers_with_the_first_turn_that_fits(tmp_path: Path) -> None:
    script = scenario(
        tmp_path,
        {
            "order": "match",
            "turns": [
                {"when": "(?i)weather", "reply": [{"call": "weather", "arguments": "{oops"}]},
                {"when": "", "reply": [{"say": "Sorry, {heard}?"}]},
            ],
        },
    )
    assert (await answer(user("The Weather?"), scenario=script)).outputs == (Call("weather", "{oops"),)
    assert (await answer(user("the time"), scenario=script)).outputs == (Say("Sorry, the time?"),)


@pytest.mark.parametrize(
    "content",
    ["nonsense", {"turn": []}, {"turns": [{"reply": [{"sing": "la"}]}]}, {"turns": [{"when": "(", "reply": []}]}],
)
def test_a_wrong_scenario_stops_the_start_with_one_sentence(tmp_path: Path, content: Any) -> None:
    with pytest.raises(SettingsError, match=r"VOICEBUS_SCENARIO: .*scenario\.json: "):
        scenario(tmp_path, content)
    with pytest.raises(SettingsError, match="cannot be read"):
        Scenario.load(tmp_path / "none.json")


TOOLS = (
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}},
    {
        "type": "function",
        "name": "book",
        "parameters": {
            "type": "object",
            "properties": {"day": {"enum": ["mon", "tue"]}, "seats": {"type": "integer", "minimum": 1}, "note": {}},
            "required": ["day", "seats"],
        },
    },
)


def test_tool_choice_none_never_yields_a_call() -> None:
    reply = obeying(BrainReply((Say("a"), Call("look", "{}"))), context(tools=TOOLS, choice="none"))
    assert reply.outputs == (Say("a"),)
    reply = obeying(BrainReply((Call("look", "{}"),)), context(tools=TOOLS, choice="none"))
    assert [type(entry) for entry in reply.outputs] == [Say]


@pytest.mark.parametrize(
    ("choice", "outputs", "name"),
    [
        ("required", (Say("a"),), "look"),
        ("required", (Call("book", "{}"),), "book"),
        ({"type": "function", "name": "book"}, (Say("a"),), "book"),
        ({"type": "function", "name": "book"}, (Call("look", "{}"),), "book"),
    ],
)
def test_tool_choice_required_or_a_name_always_yields_the_call(choice: Any, outputs: Any, name: str) -> None:
    reply = obeying(BrainReply(outputs), context(tools=TOOLS, choice=choice))
    assert [entry.name for entry in reply.outputs if isinstance(entry, Call)] == [name]


def test_a_forced_call_fits_the_schema() -> None:
    (call,) = obeying(BrainReply(), context(tools=TOOLS, choice={"type": "function", "name": "book"})).outputs
    assert isinstance(call, Call)
    assert json.loads(call.arguments) == {"day": "mon", "seats": 1}
