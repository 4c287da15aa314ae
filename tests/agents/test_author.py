"""The author's side of a session: agents resolved, calls vetted, errors worded, in whichever process owns it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from typing import Annotated, Any

import pytest
from pydantic import StringConstraints

from voicebus import (
    FunctionTool,
    ModelBehaviorError,
    RealtimeAgent,
    RemoteTool,
    RunContextWrapper,
    UserError,
    function_tool,
    realtime_handoff,
)
from voicebus.agents import author as author_module
from voicebus.agents.author import KEPT_SNAPSHOTS, SessionAuthor
from voicebus.agents.guardrails import GuardrailFunctionOutput, InputGuardrail, OutputGuardrail
from voicebus.agents.handoffs import NO_INPUT, Handoff
from voicebus.agents.tools.guardrails import (
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
)
from voicebus.agents.tools.hosted import HostedMCPTool
from voicebus.contracts.tools import ToolRegistration
from voicebus.engine.config import AgentSpec, Approval, GuardrailMode, HoldSpec, HostedToolSpec
from voicebus.engine.inputs import CallVetted
from voicebus.engine.outputs import ResolveAgent, VetCall, WordToolError

CONTEXT = RunContextWrapper({"caller": "Ann"})


class Troubles(list[tuple[str, str]]):
    def __call__(self, code: str, message: str) -> None:
        self.append((code, message))


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


def author(
    run_config: Mapping[str, Any] | None = None, initial: Mapping[str, Any] | None = None, **more: Any
) -> SessionAuthor:
    model_config: dict[str, Any] = {"initial_model_settings": initial} if initial is not None else {}
    if "call_id" in more:
        model_config["call_id"] = more.pop("call_id")
    given: dict[str, Any] = {
        "context": CONTEXT, "run_config": run_config or {}, "model_config": model_config or None, "session": "s1",
        "tool_timeout_s": 30, "in_process": True, **more,
    }  # fmt: skip
    return SessionAuthor(**given)


def tool(name: str = "look", **more: Any) -> FunctionTool:
    async def run(context: Any, arguments: str) -> str:
        return arguments

    return FunctionTool(name, "Look.", {"type": "object", "properties": {}}, run, **more)


def names(spec: AgentSpec) -> list[str]:
    return [entry.name for entry in spec.tools]


def never(context: Any, agent: Any) -> bool:
    return False


def passes(context: Any, agent: Any, text: str) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(None, False)


# --- what an agent is resolved to -----------------------------------------------------------------


async def test_dynamic_instructions_see_the_context_and_the_agent() -> None:
    class Speak:
        async def __call__(self, context: RunContextWrapper[Any], agent: Any) -> str:
            return f"{agent.name} talks to {context.context['caller']}"

    spec = await author().begin(RealtimeAgent("a", instructions=Speak()))
    assert spec.instructions == "a talks to Ann"


async def test_instructions_that_take_too_long_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author_module, "RESOLVE_TIMEOUT_S", 0.01)

    async def hang(context: Any, agent: Any) -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(UserError, match=r"the instructions and tools of agent 'a' took longer than 0\.01 s"):
        await author().begin(RealtimeAgent("a", instructions=hang))


async def test_a_timeout_of_the_authors_own_is_told_as_such() -> None:
    def fail(context: Any, agent: Any) -> str:
        raise TimeoutError("the prompt store is slow")

    with pytest.raises(TimeoutError, match="the prompt store is slow"):
        await author().begin(RealtimeAgent("a", instructions=fail))


async def test_instructions_that_are_no_text_are_refused() -> None:
    with pytest.raises(UserError, match="instructions returned int, not text"):
        await author().begin(RealtimeAgent("a", instructions=lambda ctx, agent: 7))  # type: ignore[arg-type, return-value]


async def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(UserError, match="agent must be a RealtimeAgent, not 'a'"):
        await author().update("a")  # type: ignore[arg-type]


async def test_disabled_tools_and_handoffs_are_left_out() -> None:
    async def asked(context: RunContextWrapper[Any], agent: Any) -> bool:
        return bool(context.context["caller"] == "Ann") and agent.name == "a"

    other = RealtimeAgent[Any]("b")
    agent = RealtimeAgent[Any](
        "a",
        tools=[
            tool("on"),
            tool("off", is_enabled=False),
            tool("never", is_enabled=never),
            tool("yes", is_enabled=asked),
        ],
        handoffs=[
            other,
            realtime_handoff(other, "hidden", is_enabled=False),
            realtime_handoff(other, is_enabled=never),
        ],
    )
    spec = await author().begin(agent)
    assert names(spec) == ["on", "yes"]
    assert [(entry.name, entry.agent) for entry in spec.handoffs] == [("transfer_to_b", "b")]


class Server:
    """An MCP server, as far as an agent knows one."""

    def __init__(self, name: str, *tools: FunctionTool) -> None:
        self.name = name
        self.tools = list(tools)
        self.asked: list[Any] = []

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_tools(self, run_context: Any, agent: Any) -> list[FunctionTool]:
        self.asked.append((run_context, agent.name))
        return self.tools


async def test_tools_of_mcp_servers_come_first_and_run_where_the_session_is() -> None:
    server = Server("crm", tool("find"), tool("hidden", is_enabled=False))
    agent = RealtimeAgent[Any]("a", tools=[tool("own")], mcp_servers=[server])
    cluster = author(in_process=False)
    spec = await cluster.begin(agent)
    assert [(entry.name, entry.local) for entry in spec.tools] == [("find", True), ("own", False)]
    server.tools.append(tool("late"))
    assert names(await cluster.update(agent)) == ["find", "late", "own"]
    assert server.asked == [(CONTEXT, "a")] * 2
    assert [getattr(entry, "name", None) for entry in await agent.get_all_tools(CONTEXT)] == ["find", "late", "own"]


class Helpful(RealtimeAgent[Any]):
    """Says in its own way which tools it has."""

    brings: Any = ()

    async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> Any:
        return self.brings if self.brings is None else [*await super().get_all_tools(run_context), *self.brings]


async def test_tools_that_the_agents_class_adds_run_where_the_session_is() -> None:
    agent = Helpful("a", tools=[tool("look"), tool("hide", is_enabled=False)])
    agent.brings = [tool("find")]
    spec = await author(in_process=False).begin(agent)
    assert [(entry.name, entry.local) for entry in spec.tools] == [("look", False), ("find", True)]


async def test_an_agent_whose_tools_are_all_disabled_is_not_given_the_run_configs() -> None:
    given = {"model_settings": {"tools": [tool("base")]}}
    assert names(await author(given).begin(RealtimeAgent("a", tools=[tool(is_enabled=False)]))) == []
    assert names(await author(given).begin(RealtimeAgent("a"))) == ["base"]


async def test_a_class_that_gives_no_list_of_tools_is_told_so() -> None:
    agent = Helpful("a")
    agent.brings = None
    with pytest.raises(UserError, match="get_all_tools returned NoneType, not a list of tools"):
        await author().begin(agent)


async def test_two_servers_with_tools_of_one_name_are_refused() -> None:
    agent = RealtimeAgent[Any]("a", mcp_servers=[Server("x", tool()), Server("y", tool())])
    with pytest.raises(UserError, match="MCP servers 'x' and 'y' both offer a tool 'look'"):
        await author().begin(agent)


async def test_in_process_every_tool_is_local() -> None:
    spec = await author().begin(RealtimeAgent("a", tools=[tool()]))
    assert spec.tools[0].local


async def test_a_tool_spec_says_how_long_where_and_under_which_conditions_it_runs() -> None:
    def ask(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        return True

    guard = ToolInputGuardrail[Any](lambda data: ToolGuardrailFunctionOutput.allow())
    agent = RealtimeAgent[Any](
        "a",
        tools=[
            tool("plain", timeout_seconds=2, queue="mine", respond="never", idempotent=True),
            tool("always", needs_approval=True),
            tool("asks", needs_approval=ask),
            tool("guarded", tool_input_guardrails=[guard]),
            tool("sometimes", is_enabled=lambda ctx, agent: True),
        ],
    )
    plain, always, asks, guarded, sometimes = (await author(in_process=False).begin(agent)).tools
    assert (plain.timeout_ms, plain.queue, plain.respond, plain.idempotent) == (2000, "mine", "never", True)
    assert (plain.approval, plain.vetted, plain.local) == (Approval.NEVER, False, False)
    assert (always.approval, always.timeout_ms) == (Approval.ALWAYS, 30_000)
    assert (asks.approval, asks.vetted) == (Approval.ASK, False)
    assert (guarded.approval, guarded.vetted) == (Approval.NEVER, True)
    assert sometimes.vetted


async def test_remote_tools_come_from_the_registry_which_is_asked_only_for_them() -> None:
    asked: list[int] = []

    async def registered() -> Mapping[str, ToolRegistration]:
        asked.append(1)
        return {
            "invoice": ToolRegistration(
                name="invoice", description="Send.", parameters={}, queue="billing", timeout_ms=900, at=1,
                needs_approval=True,
            )
        }  # fmt: skip

    cluster = author(in_process=False, registered=registered)
    await cluster.begin(RealtimeAgent("a", tools=[tool()]))
    assert asked == []
    spec = await cluster.update(RealtimeAgent("a", tools=[RemoteTool("invoice"), RemoteTool("gone")]))
    assert [(entry.name, entry.queue, entry.approval) for entry in spec.tools] == [
        ("invoice", "billing", Approval.ALWAYS)
    ]


async def test_what_is_said_while_a_tool_runs_is_the_tools_own_word_else_the_run_configs() -> None:
    config = {"hold_phrase": ["One moment.", "Still looking."], "hold_every": 4}
    agent = RealtimeAgent(
        "a",
        tools=[
            tool("plain"),
            tool("own", hold_phrase="I ask the kitchen.", hold_after=3),
            tool("mute", hold_phrase=""),
            tool("later", background=True, speak_progress=True),
            RemoteTool("invoice"),
        ],
    )

    async def registered() -> Mapping[str, ToolRegistration]:
        invoice = ToolRegistration(
            name="invoice", description="Send.", parameters={}, queue="billing", timeout_ms=900, at=1,
            hold_after_ms=700, speak_progress=True,
        )  # fmt: skip
        return {"invoice": invoice}

    specs = (await author(in_process=False, run_config=config, registered=registered).begin(agent)).tools
    said = ("One moment.", "Still looking.")
    assert [spec.hold for spec in specs] == [
        HoldSpec(said, 1500, 4000), HoldSpec(("I ask the kitchen.",), 3000, 4000), None, None,
        HoldSpec(said, 700, 4000),
    ]  # fmt: skip
    assert [spec.speak_progress for spec in specs] == [False, False, False, True, True]
    assert [spec.background for spec in specs] == [False, False, False, True, False]


@pytest.mark.parametrize("fields", [{"speak_progress": True}, {"hold_phrase": "One moment."}])
async def test_a_model_of_the_programs_own_cannot_be_made_to_say_something(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="tool 'look': hold phrases and speak_progress need a model whose responses"):
        await author(custom_model=True).begin(RealtimeAgent("a", tools=[tool(**fields)]))


async def test_a_remote_tool_is_refused_where_no_worker_can_be_reached() -> None:
    with pytest.raises(UserError, match="RemoteTool 'invoice' needs a cluster"):
        await author().begin(RealtimeAgent("a", tools=[RemoteTool("invoice")]))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tools": [tool(), tool()]}, "two tools or handoffs named 'look'"),
        ({"tools": [tool("transfer_to_b")], "handoffs": [RealtimeAgent("b")]}, "handoffs named 'transfer_to_b'"),
        ({"handoffs": [RealtimeAgent("b"), RealtimeAgent("b")]}, "two tools or handoffs named 'transfer_to_b'"),
        (
            {"handoffs": [RealtimeAgent("客服"), RealtimeAgent("销售")]},
            "named 'transfer_to___'; rename one, or give a realtime_handoff its tool_name_override",
        ),
        ({"mcp_servers": [Server("x", tool())], "tools": [tool()]}, "two tools or handoffs named 'look'"),
    ],
)
async def test_two_of_one_name_are_refused_at_the_start_and_at_every_change(
    fields: dict[str, Any], sentence: str
) -> None:
    agent = RealtimeAgent[Any]("a", **fields)
    session = author()
    for resolving in (session.begin, session.update):
        with pytest.raises(UserError, match=sentence):
            await resolving(agent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [print]), ("tools", None), ("handoffs", ["b"]), ("output_guardrails", [passes]),
        ("mcp_servers", [3]), ("instructions", 3), ("hooks", 3), ("voice", 3), ("client_policy", 3), ("name", 3),
    ],
)  # fmt: skip
async def test_what_was_changed_on_an_agent_is_checked_when_it_takes_over(name: str, value: Any) -> None:
    agent, session = RealtimeAgent[Any]("a"), author()
    setattr(agent, name, value)
    for resolving in (session.begin, session.update):
        with pytest.raises(UserError, match=rf"RealtimeAgent.* {name}"):
            await resolving(agent)


async def test_an_agent_of_a_class_of_ones_own_is_made_once() -> None:
    @dataclass
    class Titled(RealtimeAgent[Any]):
        title: InitVar[str] = "Ms"

        def __post_init__(self, title: str) -> None:
            super().__post_init__()
            self.instructions = f"You are {title} Ada."

    spec = await author().begin(Titled("Ada", title="Dr"))
    assert spec.instructions == "You are Dr Ada."


async def test_a_gateway_refuses_a_handoff_whose_agent_only_taking_it_tells() -> None:
    async def choose(context: Any, arguments: str) -> Any:
        return RealtimeAgent("b")

    agent = RealtimeAgent[Any]("a", handoffs=[Handoff("route", "Choose.", NO_INPUT, choose, "b")])
    assert (await author().begin(agent)).handoffs[0].name == "route"
    with pytest.raises(UserError, match="cannot know the agent of handoff 'route'"):
        await author(in_process=False).begin(agent)


# --- settings, by their precedence ----------------------------------------------------------------


async def test_later_layers_of_settings_win_and_the_initial_ones_survive_handoffs() -> None:
    session = author(
        {"model_settings": {"voice": "sage", "speed": 1.2, "input_audio_format": "g711_ulaw", "model_name": "m1"}},
        {"voice": "cedar", "model_name": "m2"},
    )
    for resolving in (session.begin, session.update):
        spec = await resolving(RealtimeAgent("a"))
        assert spec.session["audio"]["output"] == {
            "format": {"type": "audio/pcm", "rate": 24000}, "voice": "cedar", "speed": 1.2,
        }  # fmt: skip
        assert spec.session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert session.settings(spec.snapshot)["model_name"] == "m2"


async def test_initial_instructions_tools_and_handoffs_beat_the_agent_when_the_session_begins_only() -> None:
    other = RealtimeAgent[Any]("b")
    session = author(
        initial={"instructions": "initial", "tools": [tool("first"), tool("off", is_enabled=False)],
                 "handoffs": [realtime_handoff(other, "go")], "prompt": {"id": "p0"}},
    )  # fmt: skip
    agent = RealtimeAgent[Any]("a", instructions="own", tools=[tool("own")], handoffs=[other], prompt={"id": "p1"})
    spec = await session.begin(agent)
    assert (spec.instructions, names(spec), spec.handoffs[0].name) == ("initial", ["first"], "go")
    assert spec.session["prompt"] == {"id": "p0"}
    spec = await session.update(agent)
    assert (spec.instructions, names(spec), spec.handoffs[0].name) == ("own", ["own"], "transfer_to_b")


async def test_an_agent_beats_the_run_config_which_stands_in_for_what_it_does_not_name() -> None:
    base = {"instructions": "base", "tools": [tool("base")], "handoffs": [realtime_handoff(RealtimeAgent("c"))],
            "prompt": {"id": "p0"}}  # fmt: skip
    session = author({"model_settings": base})
    bare = await session.begin(RealtimeAgent("a"))
    assert (bare.instructions, names(bare), bare.handoffs[0].agent) == ("base", ["base"], "c")
    assert bare.session["prompt"] == {"id": "p0"}
    full = await session.update(
        RealtimeAgent("a", instructions="", tools=[tool("own")], handoffs=[RealtimeAgent("b")], prompt={"id": "p1"})
    )
    assert (full.instructions, names(full), full.handoffs[0].agent) == ("", ["own"], "b")
    assert full.session["prompt"] == {"id": "p1"}


async def test_an_agent_that_nobody_instructs_gets_no_instructions_of_the_servers() -> None:
    assert (await author().begin(RealtimeAgent("a"))).instructions == ""
    assert (await author().begin(RealtimeAgent("a", prompt={"id": "p1"}))).instructions is None


async def test_an_agents_own_voice_beats_the_run_configs_in_either_place() -> None:
    agent = RealtimeAgent[Any]("a", voice="marin")
    for base in ({"voice": "sage"}, {"audio": {"output": {"voice": "sage", "speed": 0.5}}}, {"audio": None}):
        spec = await author({"model_settings": base}).begin(agent)
        assert spec.session["audio"]["output"]["voice"] == "marin"
    for initial in ({"voice": "cedar"}, {"audio": {"output": {"voice": "cedar"}}}):
        session = author(initial=initial)
        assert (await session.begin(agent)).session["audio"]["output"]["voice"] == "cedar"
        assert (await session.update(agent)).session["audio"]["output"]["voice"] == "marin"


async def test_tracing_is_off_where_it_is_disabled() -> None:
    assert (await author().begin(RealtimeAgent("a"))).session["tracing"] == "auto"
    disabled = author({"tracing_disabled": True, "model_settings": {"tracing": {"group_id": "g"}}})
    assert "tracing" not in (await disabled.begin(RealtimeAgent("a"))).session


async def test_a_joined_call_keeps_its_audio_formats() -> None:
    spec = await author(call_id="rtc_1").begin(RealtimeAgent("a"))
    assert "format" not in spec.session["audio"]["output"]


async def test_the_settings_for_a_model_hold_the_tools_and_handoffs_themselves() -> None:
    look, other = tool(), RealtimeAgent[Any]("b")
    session = author()
    spec = await session.begin(RealtimeAgent("a", instructions="hi", tools=[look], handoffs=[other]))
    settings = session.settings(spec.snapshot)
    assert settings["instructions"] == "hi"
    assert settings["tools"] == [look]
    assert [handoff.agent for handoff in settings["handoffs"]] == [other]


def test_wrong_settings_are_refused_before_anything_happens() -> None:
    with pytest.raises(UserError, match="voise"):
        author({"model_settings": {"voise": 1}})
    with pytest.raises(UserError, match="speed"):
        author(initial={"speed": 9})


# --- guardrails -----------------------------------------------------------------------------------


async def test_guardrails_are_joined_once_and_told_apart_by_name() -> None:
    shared, own, twin = OutputGuardrail(passes), OutputGuardrail(passes, policy_hint="Be kind."), InputGuardrail(passes)
    session = author(
        {"output_guardrails": [shared], "input_guardrails": [twin], "guardrails_settings": {"debounce_text_length": 7}}
    )
    agent = RealtimeAgent[Any](
        "a", output_guardrails=[shared, own], input_guardrails=[InputGuardrail(passes, "heard", budget_ms=9)]
    )
    spec = await session.begin(agent)
    assert [(entry.name, entry.debounce, entry.policy_hint) for entry in spec.guardrails] == [
        ("passes", 7, None),
        ("passes (2)", 7, "Be kind."),
    ]
    assert [(entry.name, entry.budget_ms) for entry in spec.input_guardrails] == [("heard", 9), ("passes (3)", 1500)]
    assert session.guardrail(spec.snapshot, "passes") is shared
    assert session.guardrail(spec.snapshot, "passes (2)") is own
    assert session.guardrail(spec.snapshot, "passes (3)") is twin
    assert session.guardrail(spec.snapshot, "none") is None
    assert session.guardrail(99, "passes") is None


async def test_holding_a_turn_for_its_transcript_needs_one() -> None:
    agent = RealtimeAgent[Any]("a", input_guardrails=[InputGuardrail(passes, mode="hold")])
    assert (await author().begin(agent)).input_guardrails[0].mode is GuardrailMode.HOLD
    with pytest.raises(UserError, match="input_audio_transcription is None"):
        await author({"model_settings": {"input_audio_transcription": None}}).begin(agent)


async def test_audio_that_does_not_pass_cannot_be_held_back() -> None:
    agent = RealtimeAgent[Any]("a", output_guardrails=[OutputGuardrail(passes, mode="hold")])
    with pytest.raises(UserError, match="joined by call_id"):
        await author(call_id="rtc_1").begin(agent)


# --- handoffs -------------------------------------------------------------------------------------


def handoff_of(spec: AgentSpec, name: str = "transfer_to_b", arguments: str = "{}") -> ResolveAgent:
    return ResolveAgent("c1", name, spec.name, "b", arguments, spec.snapshot)


async def test_a_handoff_runs_its_callback_and_resolves_its_agent() -> None:
    seen: list[Any] = []
    other = RealtimeAgent[Any]("b", instructions="B")
    session = author()
    spec = await session.begin(RealtimeAgent("a", handoffs=[realtime_handoff(other, on_handoff=seen.append)]))
    taken = await session.resolve(handoff_of(spec))
    assert (taken.name, taken.instructions) == ("b", "B")
    assert taken.snapshot > spec.snapshot
    assert seen == [CONTEXT]
    assert session.agent("b") is other


async def test_a_handoff_is_looked_up_where_it_was_offered() -> None:
    session = author()
    agent = RealtimeAgent[Any]("a", handoffs=[RealtimeAgent("b")])
    spec = await session.begin(agent)
    agent.handoffs.clear()
    await session.update(agent)
    assert (await session.resolve(handoff_of(spec))).name == "b"
    with pytest.raises(ModelBehaviorError, match="Tool transfer_to_b not found"):
        await session.resolve(ResolveAgent("c1", "transfer_to_b", "a", "b", "{}", 99))
    with pytest.raises(ModelBehaviorError, match="Tool elsewhere not found"):
        await session.resolve(handoff_of(spec, "elsewhere"))


async def test_a_handoff_disabled_meanwhile_is_not_taken() -> None:
    enabled, seen = [True], list[Any]()
    handoff = realtime_handoff(RealtimeAgent("b"), on_handoff=seen.append, is_enabled=lambda context, agent: enabled[0])
    session = author()
    spec = await session.begin(RealtimeAgent("a", handoffs=[handoff]))
    enabled[0] = False
    with pytest.raises(ModelBehaviorError, match="not found"):
        await session.resolve(handoff_of(spec))
    assert seen == []


async def test_a_handoff_to_an_agent_that_cannot_be_fails_and_keeps_what_was() -> None:
    session = author()
    spec = await session.begin(RealtimeAgent("a", handoffs=[RealtimeAgent("b", tools=[tool(), tool()])]))
    with pytest.raises(UserError, match="two tools or handoffs named 'look'"):
        await session.resolve(handoff_of(spec))
    with pytest.raises(KeyError):
        session.agent("b")
    assert session.agent("a").name == "a"


# --- calls ----------------------------------------------------------------------------------------


async def vet(
    look: FunctionTool, *, arguments: str = "{}", approved: bool = False, run_config: Any = None, **more: Any
) -> CallVetted:
    session = author(run_config, **more)
    spec = await session.begin(RealtimeAgent("a", tools=[look]))
    return await session.vet(VetCall("c1", look.name, arguments, "a", spec.snapshot, approved))


async def test_a_call_without_conditions_may_run() -> None:
    assert await vet(tool()) == CallVetted("c1", "run")


async def test_a_call_of_a_tool_that_is_not_there_is_one_of_an_unknown_tool() -> None:
    session = author()
    spec = await session.begin(RealtimeAgent("a", tools=[tool()]))
    unknown = CallVetted("c1", "reject", "Tool gone not found", "unknown_tool")
    assert await session.vet(VetCall("c1", "gone", "{}", "a", spec.snapshot, False)) == unknown
    assert (await session.vet(VetCall("c1", "look", "{}", "a", 99, False))).kind == "unknown_tool"


async def test_a_tool_disabled_meanwhile_is_unknown_and_one_of_an_earlier_snapshot_is_found() -> None:
    enabled = [True]
    session = author()
    agent = RealtimeAgent[Any]("a", tools=[tool(is_enabled=lambda context, agent: enabled[0])])
    spec = await session.begin(agent)
    agent.tools.clear()
    await session.update(agent)
    call = VetCall("c1", "look", "{}", "a", spec.snapshot, False)
    assert (await session.vet(call)).decision == "run"
    enabled[0] = False
    assert (await session.vet(call)).kind == "unknown_tool"


async def test_a_policy_is_asked_about_the_arguments_and_the_call() -> None:
    seen: list[Any] = []

    async def costly(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        seen.append((context, call_id))
        return bool(arguments["amount"] > 100)

    def plainly(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        return not arguments

    assert (await vet(tool(needs_approval=costly), arguments='{"amount": 200}')).decision == "ask"
    assert (await vet(tool(needs_approval=costly), arguments='{"amount": 20}')).decision == "run"
    assert seen == [(CONTEXT, "c1")] * 2
    assert (await vet(tool(needs_approval=plainly))).decision == "ask"
    assert (await vet(tool(needs_approval=True))).decision == "ask"


@pytest.mark.parametrize(
    "arguments", ["", "  ", "{", "[]", "3", "null", '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000]
)
async def test_a_policy_that_cannot_see_the_arguments_lets_a_person_decide(arguments: str) -> None:
    assert (await vet(tool(needs_approval=lambda context, given, call: False), arguments=arguments)).decision == "ask"


async def test_a_policy_is_asked_about_what_the_function_gets_too_where_that_is_something_else() -> None:
    seen: list[dict[str, Any]] = []

    def to_evil(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        seen.append(arguments)
        return bool(arguments.get("to") == "evil")

    @function_tool(name_override="look", needs_approval=to_evil)
    def pay(to: Annotated[str, StringConstraints(strip_whitespace=True)], amount: int = 1) -> str:
        return to

    assert (await vet(pay, arguments='{"to": " evil", "amount": 2}')).decision == "ask"
    assert seen == [{"to": " evil", "amount": 2}, {"to": "evil", "amount": 2}]
    seen.clear()
    assert (await vet(pay, arguments='{"to": "ann", "amount": 2}')).decision == "run"
    assert seen == [{"to": "ann", "amount": 2}]
    seen.clear()
    assert (await vet(pay, arguments='{"to": "ann"}')).decision == "run"
    assert seen == [{"to": "ann"}, {"to": "ann", "amount": 1}]
    # It is not run with them, and told why.
    assert (await vet(pay, arguments='{"to": 3}')).decision == "run"


async def test_a_policy_that_raises_lets_a_person_decide(troubles: Troubles) -> None:
    def fail(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        raise KeyError("amount")

    assert (await vet(tool(needs_approval=fail), trouble=troubles)).decision == "ask"
    assert troubles == [("approval_policy_failed", "needs_approval of tool 'look' failed: KeyError: 'amount'")]


async def test_an_approved_call_is_not_asked_about_again() -> None:
    def fail(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        raise AssertionError("asked again")

    assert (await vet(tool(needs_approval=fail), approved=True)).decision == "run"


def guarded(judge: Callable[[ToolInputGuardrailData], ToolGuardrailFunctionOutput], **more: Any) -> FunctionTool:
    return tool(tool_input_guardrails=[ToolInputGuardrail[Any](judge)], **more)


async def test_input_guardrails_see_the_call_and_may_refuse_it() -> None:
    seen: list[Any] = []

    def judge(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        context = data.context
        seen.append((context.context, context.tool_name, context.tool_call_id, context.tool_arguments, context.session))
        assert data.agent is not None
        seen.append(data.agent.name)
        return ToolGuardrailFunctionOutput.reject_content("Not today.")

    assert await vet(guarded(judge)) == CallVetted("c1", "reject", "Not today.", "guardrail")
    assert seen == [(CONTEXT.context, "look", "c1", "{}", "s1"), "a"]
    assert (await vet(guarded(lambda data: ToolGuardrailFunctionOutput.allow()))).decision == "run"


@pytest.mark.parametrize("how", ["raise_exception", "raises"])
async def test_a_guardrail_that_raises_lets_nothing_through_and_is_reported(how: str, troubles: Troubles) -> None:
    def judge(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        if how == "raises":
            raise ValueError("no list")
        return ToolGuardrailFunctionOutput.raise_exception()

    vetted = await vet(guarded(judge), trouble=troubles)
    assert (vetted.decision, vetted.kind) == ("reject", "guardrail")
    assert [code for code, _ in troubles] == ["tool_guardrail_failed"]


async def test_guardrails_come_after_the_approval_unless_they_are_wanted_before_it_too() -> None:
    asked: list[int] = []

    def judge(data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        asked.append(1)
        return ToolGuardrailFunctionOutput.reject_content("no")

    look = guarded(judge, needs_approval=True)
    assert (await vet(look)).decision == "ask"
    assert asked == []
    assert (await vet(look, approved=True)).decision == "reject"
    early = {"tool_execution": {"pre_approval_tool_input_guardrails": True}}
    assert (await vet(look, run_config=early)).decision == "reject"
    assert len(asked) == 2
    allowed = guarded(lambda data: ToolGuardrailFunctionOutput.allow(), needs_approval=True)
    assert (await vet(allowed, run_config=early)).decision == "ask"


# --- hosted servers -------------------------------------------------------------------------------

CONFIG = {"server_label": "crm", "server_url": "https://crm.example"}


async def test_a_hosted_server_is_told_to_the_model_and_found_by_its_tools_names() -> None:
    hosted = HostedMCPTool(CONFIG)
    session = author()
    spec = await session.begin(RealtimeAgent("a", tools=[hosted, tool()]))
    assert spec.hosted_tools == (HostedToolSpec("crm", {**CONFIG, "type": "mcp"}),)
    assert names(spec) == ["look"]
    assert session.tool(spec.snapshot, "crm") is hosted
    assert session.tool(spec.snapshot, "crm.find") is hosted
    assert session.tool(spec.snapshot, "look.find") is None
    assert session.tool(99, "look") is None


async def test_two_hosted_servers_of_one_label_are_refused() -> None:
    for other in (HostedMCPTool(CONFIG), tool("crm")):
        with pytest.raises(UserError, match="two tools named 'crm'"):
            await author().begin(RealtimeAgent("a", tools=[HostedMCPTool(CONFIG), other]))


async def vet_hosted(answer: Any, *, approved: bool = False, name: str = "crm.find", **more: Any) -> CallVetted:
    session = author(**more)
    spec = await session.begin(RealtimeAgent("a", tools=[HostedMCPTool(CONFIG, answer)]))
    assert spec.hosted_tools[0].vetted is (answer is not None)
    return await session.vet(VetCall("m1", name, '{"q": 1}', "a", spec.snapshot, approved, hosted=True))


async def test_a_hosted_servers_function_decides_about_its_calls() -> None:
    seen: list[Any] = []

    async def decide(request: Any) -> Any:
        seen.append((request.ctx_wrapper, request.data.server_label, request.data.name, request.data.arguments))
        return {"approve": True}

    assert await vet_hosted(decide) == CallVetted("m1", "run")
    assert seen == [(CONTEXT, "crm", "find", '{"q": 1}')]
    refused = await vet_hosted(lambda request: {"approve": False, "reason": "Too dear."})
    assert refused == CallVetted("m1", "reject", "Too dear.")
    assert (await vet_hosted(None)).decision == "ask"
    assert (await vet_hosted(None, approved=True)).decision == "run"
    assert (await vet_hosted(None, name="other.find")).kind == "unknown_tool"


async def test_a_hosted_servers_function_that_fails_lets_nothing_through(troubles: Troubles) -> None:
    assert (await vet_hosted(lambda request: None, trouble=troubles)).decision == "reject"
    assert [code for code, _ in troubles] == ["approval_policy_failed"]


# --- errors in words ------------------------------------------------------------------------------


async def test_every_kind_of_tool_error_is_put_into_the_authors_words() -> None:
    async def formatter(args: Any) -> str:
        assert args.run_context is CONTEXT
        return f"{args.kind} {args.tool_type} {args.tool_name} {args.call_id}: {args.default_message}"

    session = author({"tool_error_formatter": formatter})
    for kind in ("approval_rejected", "tool_not_found", "tool_exception"):
        told = await session.word_error(WordToolError("c1", "look", kind, "It failed."))
        assert told == f"{kind} function look c1: It failed."


@pytest.mark.parametrize("answer", [None, 7, ValueError("no words")])
async def test_without_words_of_the_author_the_default_is_told(answer: Any, troubles: Troubles) -> None:
    def formatter(args: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    error = WordToolError("c1", "look", "tool_exception", "It failed.")
    session = author({"tool_error_formatter": formatter}, trouble=troubles)
    assert await session.word_error(error) == "It failed."
    assert [code for code, _ in troubles] == (["tool_error_formatter_failed"] if isinstance(answer, Exception) else [])
    assert await author().word_error(error) == "It failed."


# --- snapshots ------------------------------------------------------------------------------------


async def test_the_callables_of_the_last_snapshots_are_kept() -> None:
    look, session = tool(), author()
    agent = RealtimeAgent[Any]("a", tools=[look])
    numbers = [(await session.update(agent)).snapshot for _ in range(KEPT_SNAPSHOTS + 1)]
    assert len(set(numbers)) == len(numbers)
    assert session.tool(numbers[0], "look") is None
    assert session.tool(numbers[1], "look") is look
    assert (session.latest("a"), session.latest("b")) == (numbers[-1], 0)
    await session.aclose()
    assert session.tool(numbers[-1], "look") is None
    with pytest.raises(KeyError):
        session.settings(numbers[-1])


async def test_troubles_of_an_author_that_nobody_hears_are_logged_only() -> None:
    def fail(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        raise KeyError("amount")

    assert (await vet(tool(needs_approval=fail))).decision == "ask"


@function_tool
def weather(city: str) -> str:
    """The weather."""
    return city


async def test_a_decorated_function_is_served_from_its_packages_queue() -> None:
    spec = await author(in_process=False).begin(RealtimeAgent("a", tools=[weather]))
    assert spec.tools[0].queue == weather.own_queue
    spec = await author(in_process=False, default_queue="mine").begin(RealtimeAgent("a", tools=[weather]))
    assert spec.tools[0].queue == "mine"
