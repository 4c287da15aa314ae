"""TARGETs: what is found in them, what is refused, and agents as plain data."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voicebus import RunContextWrapper
from voicebus.agents.author import SessionAuthor
from voicebus.agents.targets import load_targets
from voicebus.contracts.tools import ToolRegistration
from voicebus.errors import TargetError, UserError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module with the given body and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(body: str) -> str:
        name = f"target_{len(made)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text("from voicebus import *\n" + body, encoding="utf-8")
        made.append(name)
        return name

    yield write
    for name in made:
        sys.modules.pop(name, None)


async def resolve(name: str, agent: str, **more: Any) -> Any:
    targets = load_targets([name])
    author = SessionAuthor(
        context=RunContextWrapper({}), run_config=targets.configs[agent], model_config=None, session="s1",
        tool_timeout_s=30, in_process=False, **more,
    )  # fmt: skip
    return await author.begin(targets.agents[agent])


def test_a_module_brings_all_its_agents_tools_and_guardrails_and_the_first_is_the_default() -> None:
    targets = load_targets(["examples.front_desk"])
    assert list(targets.agents) == ["concierge", "reservations"]
    assert targets.default_agent == "concierge"
    assert set(targets.tools) == {"get_weather", "book_room", "check_loyalty_points", "find_best_rate"}
    assert set(targets.guardrails) == {"no_card_numbers"}


def test_a_module_begins_with_the_agent_that_its_runner_starts_with(module: Any) -> None:
    agents = "b = RealtimeAgent('b')\na = RealtimeAgent('a', handoffs=[b])\n"
    assert load_targets([module(agents)]).default_agent == "b"
    targets = load_targets([module(agents + "r = RealtimeRunner(a)")])
    assert (targets.default_agent, set(targets.agents)) == ("a", {"a", "b"})


def test_an_attribute_brings_what_its_agent_leads_to() -> None:
    targets = load_targets(["examples.front_desk:reservations"])
    assert list(targets.agents) == ["reservations", "concierge"]
    assert "get_weather" in targets.tools


def test_a_runners_settings_reach_the_agents_it_leads_to(module: Any) -> None:
    name = module(
        "b = RealtimeAgent('b')\na = RealtimeAgent('a', handoffs=[b])\nc = RealtimeAgent('c')\n"
        "r = RealtimeRunner(a, config={'model_settings': {'voice': 'cedar', 'model_name': 'm1'}})"
    )
    targets = load_targets([name])
    models = [targets.configs[agent].get("model_settings", {}).get("model_name") for agent in ("a", "b", "c")]
    assert models == ["m1", "m1", None]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no_such_module_anywhere", "there is no module 'no_such_module_anywhere'"),
        ("examples.nothing_here", "there is no module 'examples.nothing_here'"),
        ("", "names no module"),
        (":agent", "names no module"),
        ("examples.front_desk:nobody", "has no attribute 'nobody'"),
        ("examples.front_desk:", "has no attribute ''"),
        ("examples.front_desk:get_weather", "a RealtimeRunner or a RealtimeAgent is needed"),
        ("json", "defines no agent, tool or guardrail"),
    ],
)
def test_a_target_that_cannot_be_served_is_one_sentence(target: str, sentence: str) -> None:
    with pytest.raises(TargetError, match="TARGET ") as refused:
        load_targets([target])
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("source", "why"), [("1 / 0", "ZeroDivisionError"), ("raise SystemExit(5)", "SystemExit: 5")])
def test_a_module_that_raises_while_it_is_imported_is_one_sentence(module: Any, source: str, why: str) -> None:
    name = module(source)
    with pytest.raises(TargetError, match=f"importing it failed: {why}"):
        load_targets([name])


def test_no_target_at_all_is_refused() -> None:
    with pytest.raises(TargetError, match="no TARGET was given"):
        load_targets([])


def test_two_tools_of_one_name_are_refused_and_both_named(module: Any) -> None:
    name = module(
        "@function_tool\ndef look(a: str) -> str: return a\n"
        "@function_tool(name_override='look')\ndef other(a: str) -> str: return a\n"
        "a = RealtimeAgent('a', tools=[look, other])"
    )
    with pytest.raises(TargetError, match=r"two tools are named 'look': .*\.look .*\.other"):
        load_targets([name])


def test_two_agents_of_one_name_are_refused(module: Any) -> None:
    name = module("a = RealtimeAgent('same')\nb = RealtimeAgent('same')")
    with pytest.raises(TargetError, match="two agents are named 'same'"):
        load_targets([name])


def test_settings_that_do_not_exist_stop_the_start(module: Any) -> None:
    name = module("r = RealtimeRunner(RealtimeAgent('a'), config={'model_settings': {'voise': 'ash'}})")
    with pytest.raises(TargetError, match="voise"):
        load_targets([name])


async def test_dynamic_instructions_and_disabled_tools_are_settled_when_an_agent_is_resolved(module: Any) -> None:
    name = module(
        "@function_tool(is_enabled=lambda ctx, agent: False)\ndef off() -> str: return ''\n"
        "@function_tool\ndef on() -> str: return ''\n"
        "async def speak(ctx, agent): return f'I am {agent.name}'\n"
        "a = RealtimeAgent('a', instructions=speak, tools=[off, on])"
    )
    spec = await resolve(name, "a")
    assert spec.instructions == "I am a"
    assert [tool.name for tool in spec.tools] == ["on"]
    assert spec.tools[0].timeout_ms == 30_000
    assert spec.tools[0].queue == "default"
    assert (await resolve(name, "a", default_queue="mine")).tools[0].queue == "mine"


async def test_a_tool_and_a_handoff_of_one_name_are_refused(module: Any) -> None:
    name = module(
        "@function_tool\ndef transfer_to_b() -> str: return ''\n"
        "a = RealtimeAgent('a', tools=[transfer_to_b], handoffs=[RealtimeAgent('b')])"
    )
    with pytest.raises(UserError, match="transfer_to_b"):
        await resolve(name, "a")


async def test_a_remote_tool_takes_schema_and_queue_from_the_registry(module: Any) -> None:
    name = module("a = RealtimeAgent('a', tools=[RemoteTool('invoice')])")
    registered = ToolRegistration(
        name="invoice", description="Send it.", parameters={"type": "object"}, queue="billing", timeout_ms=900, at=1
    )

    async def registry() -> dict[str, ToolRegistration]:
        return {"invoice": registered}

    spec = await resolve(name, "a", registered=registry)
    assert (spec.tools[0].queue, spec.tools[0].timeout_ms) == ("billing", 900)
    assert (await resolve(name, "a")).tools == ()


async def test_guardrails_of_agent_and_run_config_are_joined_once_with_their_debounce(module: Any) -> None:
    name = module(
        "@output_guardrail\ndef g(ctx, agent, text): return GuardrailFunctionOutput(None, False)\n"
        "@output_guardrail(mode='observe', on_error='closed')\n"
        "def h(ctx, agent, text): return GuardrailFunctionOutput(None, False)\n"
        "r = RealtimeRunner(RealtimeAgent('a', output_guardrails=[g]),"
        " config={'output_guardrails': [g, h], 'guardrails_settings': {'debounce_text_length': 20}})"
    )
    spec = await resolve(name, "a")
    assert [(rule.name, rule.mode.value, rule.debounce, rule.on_error) for rule in spec.guardrails] == [
        ("g", "interrupt", 20, "open"),
        ("h", "observe", 20, "closed"),
    ]


def test_guardrails_on_what_users_say_are_found_too(module: Any) -> None:
    name = module(
        "from voicebus.agents.guardrails import input_guardrail\n"
        "@output_guardrail\ndef said(ctx, agent, text): return GuardrailFunctionOutput(None, False)\n"
        "@input_guardrail\ndef heard(ctx, agent, text): return GuardrailFunctionOutput(None, False)\n"
        "def make(name): return input_guardrail(name=name)(heard.guardrail_function)\n"
        "r = RealtimeRunner(RealtimeAgent('a', input_guardrails=[make('mine')]),"
        " config={'input_guardrails': [make('ours')], 'output_guardrails': [said]})"
    )
    assert set(load_targets([name]).guardrails) == {"said", "heard", "mine", "ours"}
    assert set(load_targets([f"{name}:r"]).guardrails) == {"said", "mine", "ours"}


def test_two_guardrails_of_one_name_are_refused_whichever_side_they_are_on(module: Any) -> None:
    name = module(
        "from voicebus.agents.guardrails import input_guardrail\n"
        "def g(ctx, agent, text): return GuardrailFunctionOutput(None, False)\n"
        "a = RealtimeAgent('a', output_guardrails=[OutputGuardrail(g)], input_guardrails=[input_guardrail(g)])"
    )
    with pytest.raises(TargetError, match="two guardrails are named 'g'"):
        load_targets([name])


def test_what_a_run_config_gives_to_agents_that_name_none_is_loaded_with_them(module: Any) -> None:
    name = module(
        "@function_tool\ndef shared() -> str: return ''\n"
        "b = RealtimeAgent('b')\n"
        "r = RealtimeRunner(RealtimeAgent('a'),"
        " config={'model_settings': {'tools': [shared], 'handoffs': [realtime_handoff(b)]}})"
    )
    targets = load_targets([f"{name}:r"])
    assert list(targets.tools) == ["shared"]
    assert list(targets.agents) == ["a", "b"]


def test_a_tool_of_another_library_may_be_listed_by_several_agents(module: Any) -> None:
    name = module(
        "from types import SimpleNamespace\n"
        "async def run(ctx, arguments): return arguments\n"
        "schema = {'type': 'object'}\n"
        "look = SimpleNamespace(name='look', description='', params_json_schema=schema, on_invoke_tool=run)\n"
        "a = RealtimeAgent('a', tools=[look], handoffs=[RealtimeAgent('b', tools=[look])])"
    )
    assert list(load_targets([name]).tools) == ["look"]


def test_agents_that_hand_off_to_each_other_are_each_loaded_once(module: Any) -> None:
    name = module("b = RealtimeAgent('b')\na = RealtimeAgent('a', handoffs=[b])\nb.handoffs.append(a)")
    targets = load_targets([f"{name}:a", name])
    assert list(targets.agents) == ["a", "b"]
    assert targets.default_agent == "a"


def test_a_module_may_name_the_same_tool_or_agent_twice(module: Any) -> None:
    name = module("@function_tool\ndef look() -> str: return ''\nagain = look\na = RealtimeAgent('a')\nalso = a")
    assert list(load_targets([name, name]).tools) == ["look"]


def test_an_error_of_ours_while_a_module_is_imported_is_its_own_sentence(module: Any) -> None:
    name = module("a = RealtimeAgent('a', voice=7)")
    with pytest.raises(TargetError, match="voice must be a non-empty string, not 7"):
        load_targets([name])
    name = module("import no_such_module_anywhere")
    with pytest.raises(TargetError, match="importing it failed: no module named 'no_such_module_anywhere'"):
        load_targets([name])
