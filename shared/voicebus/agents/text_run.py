"""One run of a text agent: requests to the model and the calls of its tools, until it has answered."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from voicebus.agents import checking
from voicebus.agents.agent import enabled_tools
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.mcp.server import Joined
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.invoke import invoke
from voicebus.agents.tools.schema import strict_schema
from voicebus.agents.usage import InputTokensDetails, OutputTokensDetails, RequestUsage, Usage
from voicebus.errors import MaxTurnsExceeded, ModelBehaviorError, TextModelError, ToolError, UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from voicebus.agents.text_agent import Agent

TOOL_TIMEOUT_S: Final = 600.0
"""The limit of a tool that names none; that of the tool which the agent itself is, is mostly shorter."""


@dataclass(frozen=True)
class ModelSettings:
    """What a request asks a text model for; None leaves it to the model. `extra_body` is sent as it is.

    `temperature` is from 0, `top_p` 0 to 1, the penalties -2 to 2, `max_tokens` from 1. `tool_choice` is `auto`,
    `required`, `none` or a tool's name.

    Raises:
        UserError: a field of the wrong type, or out of its range.
    """

    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    extra_body: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        where = "ModelSettings"
        checking.number(where, "temperature", self.temperature, optional=True)
        checking.number(where, "top_p", self.top_p, optional=True, most=1)
        for name in ("frequency_penalty", "presence_penalty"):
            checking.number(where, name, getattr(self, name), optional=True, least=-2, most=2)
        checking.text(where, "tool_choice", self.tool_choice, optional=True, empty=False)
        checking.flag(where, "parallel_tool_calls", self.parallel_tool_calls, optional=True)
        checking.whole(where, "max_tokens", self.max_tokens, optional=True, least=1)
        checking.mapping(where, "extra_body", self.extra_body, optional=True)

    def wire(self, *, tools: bool) -> dict[str, Any]:
        """The fields of a request that are given; those about tools only where there are tools."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if not tools:
            given.pop("tool_choice", None)
            given.pop("parallel_tool_calls", None)
        elif given.get("tool_choice") not in (None, "auto", "required", "none"):
            given["tool_choice"] = {"type": "function", "function": {"name": given["tool_choice"]}}
        if "max_tokens" in given:
            given["max_completion_tokens"] = given.pop("max_tokens")
        return given


@dataclass(frozen=True)
class RunResult:
    """`final_output` is text, or an object of the agent's `output_type`. `messages` are the conversation's, as JSON."""

    final_output: Any
    last_agent: "Agent[Any]"
    messages: list[dict[str, Any]] = field(repr=False)
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Task:
    """What one run works on. `usage` is the run's own; the context's counts it in."""

    agent: "Agent[Any]"
    instructions: str | None
    model: str
    context: RunContextWrapper[Any]
    usage: Usage
    max_turns: int
    client: "AsyncOpenAI | None"


async def run_task(task: Task, question: str) -> RunResult:
    """Raises as `Agent.run` does."""
    messages: list[dict[str, Any]] = []
    if task.instructions is not None:
        messages.append({"role": "system", "content": task.instructions})
    messages.append({"role": "user", "content": question})
    shape = adapter_of(task.agent.output_type)
    async with AsyncExitStack() as held:
        client = task.client
        if client is None:
            # The package takes half a second to import, and a client reads the certificate authorities: a voice that
            # goes on beside this run would stop for as long.
            client = await held.enter_async_context(await asyncio.to_thread(_client, task.agent.name))
        servers = Joined()
        held.push_async_callback(servers.aclose)
        servers.join(task.agent.mcp_servers)
        tools = await _tools(task)
        for turn in range(task.max_turns):
            said = await _ask(task, client, messages, tools, shape, first=turn == 0)
            calls = said.tool_calls or []
            message: dict[str, Any] = {"role": "assistant", "content": said.content}
            if calls:
                message["tool_calls"] = [call.model_dump(mode="json") for call in calls]
            messages.append(message)
            if not calls:
                return RunResult(_output(shape, said.content or ""), task.agent, messages, task.usage)
            outputs = await asyncio.gather(*(_call(task, tools, call) for call in calls))
            messages.extend(
                {"role": "tool", "tool_call_id": call.id, "content": output}
                for call, output in zip(calls, outputs, strict=True)
            )
    raise MaxTurnsExceeded(f"agent {task.agent.name!r} has not answered within max_turns={task.max_turns}")


def _client(agent: str) -> "AsyncOpenAI":
    try:
        import openai
    except ImportError as error:
        raise UserError("text agents need the openai package; install voicebus[text]") from error
    try:
        client = openai.AsyncOpenAI()
    except openai.OpenAIError as error:
        raise UserError(f"Agent {agent!r}: set OPENAI_API_KEY, or give the agent a client") from error
    client.chat.completions  # noqa: B018 - imports what requests need
    return client


async def _tools(task: Task) -> dict[str, FunctionTool]:
    listed = await asyncio.gather(*(server.list_tools(task.context, task.agent) for server in task.agent.mcp_servers))
    offered = [tool for tools in listed for tool in tools] + task.agent.function_tools()
    found: dict[str, FunctionTool] = {}
    for tool in await enabled_tools(list(offered), task.context, task.agent):
        if not isinstance(tool, FunctionTool):
            continue
        if tool.name in found:
            raise UserError(f"Agent {task.agent.name!r} has two tools named {tool.name!r}; rename one")
        if tool.needs_approval:
            raise UserError(
                f"Agent {task.agent.name!r}: tool {tool.name!r} needs approval, which nobody can give in a text agent; "
                "ask for it where the agent is a tool (as_tool needs_approval)"
            )
        found[tool.name] = tool
    return found


async def _ask(
    task: Task,
    client: "AsyncOpenAI",
    messages: list[dict[str, Any]],
    tools: dict[str, FunctionTool],
    shape: "TypeAdapter[Any] | None",
    *,
    first: bool,
) -> Any:
    import openai

    request: dict[str, Any] = task.agent.model_settings.wire(tools=bool(tools))
    if not first and request.get("tool_choice") not in (None, "auto", "none"):
        del request["tool_choice"]  # a model that must call a tool each time would never answer
    if tools:
        request["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.params_json_schema,
                    "strict": tool.strict_json_schema,
                },
            }
            for tool in tools.values()
        ]
    if shape is not None:
        schema = strict_schema(shape.json_schema(), where=f"Agent {task.agent.name!r}: output_type")
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "final_output", "schema": schema, "strict": True},
        }
    try:
        answer: Any = await client.chat.completions.create(model=task.model, messages=cast("Any", messages), **request)
    except openai.OpenAIError as error:
        raise TextModelError(f"agent {task.agent.name!r}: its model {task.model!r} did not answer: {error}") from error
    used = _usage(answer.usage)
    task.usage.add(used)
    task.context.usage.add(used)
    if not answer.choices:
        raise ModelBehaviorError(f"the model {task.model!r} gave no answer")
    said = answer.choices[0].message
    if said.refusal:
        raise ModelBehaviorError(f"the model {task.model!r} refused: {said.refusal}")
    return said


async def _call(task: Task, tools: dict[str, FunctionTool], call: Any) -> str:
    name, arguments = call.function.name, call.function.arguments
    tool = tools.get(name)
    if tool is None:
        return f"Tool {name} not found"
    limit = tool.timeout_seconds or TOOL_TIMEOUT_S
    context = ToolContext.from_agent_context(
        task.context, call.id, tool_name=name, tool_arguments=arguments, deadline_s=limit
    )
    outcome = await invoke(tool, context, arguments, timeout=limit, vetted=False)
    if outcome.error is not None and outcome.error.kind in ("raised_unhandled", "timeout_raised", "guardrail_raised"):
        raise ToolError(f"agent {task.agent.name!r}: tool {name!r} failed: {outcome.error.message}")
    return outcome.output


def adapter_of(output_type: Any) -> "TypeAdapter[Any] | None":
    """What reads an answer of `output_type`, None where that is text. Raises what pydantic does for no such type."""
    return None if output_type in (None, str) else TypeAdapter(output_type)


def _output(shape: "TypeAdapter[Any] | None", text: str) -> Any:
    if shape is None:
        return text
    try:
        return shape.validate_json(text)
    except ValidationError as error:
        raise ModelBehaviorError(f"the answer does not fit output_type: {error.error_count()} errors") from error


def _usage(wire: Any) -> Usage:
    if wire is None:
        return Usage(requests=1)
    taken, made = wire.prompt_tokens_details, wire.completion_tokens_details
    given = InputTokensDetails(cached_tokens=(taken.cached_tokens if taken else 0) or 0)
    written = OutputTokensDetails(reasoning_tokens=(made.reasoning_tokens if made else 0) or 0)
    entry = RequestUsage(wire.prompt_tokens, wire.completion_tokens, wire.total_tokens, given, written)
    return Usage(1, wire.prompt_tokens, given, wire.completion_tokens, written, wire.total_tokens, [entry])
