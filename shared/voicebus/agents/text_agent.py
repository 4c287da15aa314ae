"""`Agent`: a text agent, for what a voice agent asks in the background, mostly as one of its tools (`as_tool`)."""

import dataclasses
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeAlias

from voicebus.agents import checking
from voicebus.agents.context import RunContextWrapper, TContext, ToolContext
from voicebus.agents.functions import answer_of, takes
from voicebus.agents.mcp import MCPConfig, MCPServer, check_mcp_config
from voicebus.agents.text_run import ModelSettings, RunResult, Task, adapter_of, run_task
from voicebus.agents.tools.function_tool import (
    Enabled,
    FailureText,
    FunctionTool,
    NeedsApproval,
    default_tool_error_function,
)
from voicebus.agents.tools.kinds import as_tools
from voicebus.agents.tools.python_call import parse_arguments
from voicebus.agents.tools.results import serialise
from voicebus.agents.usage import Usage
from voicebus.errors import ModelBehaviorError, ToolError, UserError, WrongTypeError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_TEXT_MODEL: Final = "gpt-5-mini"
DEFAULT_MAX_TURNS: Final = 10
"""Requests of one run, at most."""

TextInstructions: TypeAlias = str | Callable[[RunContextWrapper[Any], Any], str | Awaitable[str]] | None
OutputExtractor: TypeAlias = Callable[[RunResult], str | Awaitable[str]]


@dataclass
class Agent(Generic[TContext]):
    """A text agent over chat completions, with function tools.

    `client` is an `openai.AsyncOpenAI`; without one `OPENAI_BASE_URL` and `OPENAI_API_KEY` say where the model is and
    with which key. Tools run in the process that runs the agent, under the same rules as a voice agent's, but for
    approvals, which nobody could give.

    Args:
        name: who it is.
        instructions: text, or a function `(run_context, agent)`, sync or async.
        tools: function tools; those of other libraries are adopted.
        mcp_servers, mcp_config: as a `RealtimeAgent`'s.
        model: default `gpt-5-mini`.
        model_settings: what each request asks the model for.
        output_type: the answer is an object of this type, not text.

    Raises:
        UserError: a field has a value that cannot be honoured.
    """

    name: str
    instructions: TextInstructions = field(default=None, kw_only=True)
    handoff_description: str | None = field(default=None, kw_only=True)
    tools: list[Any] = field(default_factory=list, kw_only=True)
    mcp_servers: list[MCPServer] = field(default_factory=list, kw_only=True)
    mcp_config: MCPConfig = field(default_factory=MCPConfig, kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    model_settings: ModelSettings = field(default_factory=ModelSettings, kw_only=True)
    output_type: Any = field(default=None, kw_only=True)
    client: "AsyncOpenAI | None" = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise WrongTypeError(f"Agent name must be a non-empty string, not {self.name!r}")
        if self.instructions is not None and not isinstance(self.instructions, str) and not callable(self.instructions):
            raise self._wrong("instructions", "must be text, a function or None", self.instructions)
        if self.model is not None and (not isinstance(self.model, str) or not self.model):
            raise self._wrong("model", "must be a model's name or None", self.model)
        if not isinstance(self.model_settings, ModelSettings):
            raise self._wrong("model_settings", "must be ModelSettings", self.model_settings)
        for name in ("tools", "mcp_servers"):
            if not isinstance(getattr(self, name), list):
                raise self._wrong(name, "must be a list", getattr(self, name))
        where = f"Agent {self.name!r}"
        if callable(self.instructions) and not takes(self.instructions, 2):
            raise self._wrong("instructions", "must take the context and the agent", self.instructions)
        checking.text(where, "handoff_description", self.handoff_description, optional=True)
        checking.listed(where, "mcp_servers", self.mcp_servers, MCPServer)
        check_mcp_config(self.mcp_config, where, self._wrong)
        if self.client is not None and not hasattr(self.client, "chat"):
            raise self._wrong("client", "must be an openai.AsyncOpenAI or None", self.client)
        self._check_output_type()
        self.function_tools()

    def function_tools(self) -> list[FunctionTool]:
        """Its own tools.

        Raises:
            UserError: a text agent cannot honour one of them.
        """
        try:
            tools = as_tools(self.tools)
        except UserError as error:
            raise type(error)(f"Agent {self.name!r}: tools: {error}") from None
        held: list[FunctionTool] = []
        for tool in tools:
            if not isinstance(tool, FunctionTool):
                raise UserError(f"Agent {self.name!r}: tools: a {type(tool).__name__} needs a realtime session")
            held.append(tool)
        return held

    def clone(self, **kwargs: Any) -> Self:
        """A copy with some fields changed; lists are shared."""
        return dataclasses.replace(self, **kwargs)

    async def run(self, input: str, context: Any = None, *, max_turns: int = DEFAULT_MAX_TURNS) -> RunResult:  # noqa: A002
        """Answer `input`. `context` is given to every callback: any object, or a `RunContextWrapper`, whose `usage`
        then counts this run in.

        Raises:
            MaxTurnsExceeded: the model called tools in each of `max_turns` requests.
            TextModelError: the model cannot be reached, or refused.
            ModelBehaviorError: the answer does not fit `output_type`.
            ToolError: a tool without a `failure_error_function` failed.
            UserError: the agent cannot be run, or `voicebus[text]` is not installed.
        """
        _check_turns(max_turns)
        checking.text(f"Agent {self.name!r}: run", "input", input)
        wrapper = context if isinstance(context, RunContextWrapper) else RunContextWrapper(context)
        # Approvals, tool input and the like are not this run's; what is used is.
        own = RunContextWrapper(wrapper.context, wrapper.usage, tool_input=input)
        task = Task(
            agent=self,
            instructions=await self._instructed(own),
            model=self.model or DEFAULT_TEXT_MODEL,
            context=own,
            usage=Usage(),
            max_turns=max_turns,
            client=self.client,
        )
        return await run_task(task, input)

    def as_tool(
        self,
        tool_name: str | None = None,
        tool_description: str | None = None,
        custom_output_extractor: OutputExtractor | None = None,
        is_enabled: Enabled = True,
        *,
        max_turns: int = DEFAULT_MAX_TURNS,
        failure_error_function: FailureText | None = default_tool_error_function,
        needs_approval: NeedsApproval = False,
        timeout_seconds: float | None = None,
        **unsupported: Any,
    ) -> FunctionTool:
        """This agent as a tool with one argument, `input`, whose result is the agent's answer.

        `custom_output_extractor` makes the result of the run instead. `tool_name` is the agent's name by default, as
        a function's. What else the run of an agent may have elsewhere (`on_stream`, `session`, ...) is refused.

        Raises:
            UserError: an argument cannot be honoured.
        """
        _check_turns(max_turns)
        where = f"Agent {self.name!r}: as_tool"
        checking.text(where, "tool_name", tool_name, optional=True)
        checking.text(where, "tool_description", tool_description, optional=True)
        checking.number(where, "timeout_seconds", timeout_seconds, optional=True)
        for name, given in unsupported.items():
            if given is not None:
                raise UserError(f"Agent {self.name!r}: as_tool: {name} cannot be honoured; leave it out")
        if custom_output_extractor is not None and not callable(custom_output_extractor):
            raise self._wrong("as_tool: custom_output_extractor", "must be a function", custom_output_extractor)

        async def answer(context: ToolContext[Any], arguments: str) -> str:
            question = parse_arguments(arguments).get("input")
            if not isinstance(question, str):
                raise ModelBehaviorError("input: must be a string")
            try:
                result = await self.run(question, context, max_turns=max_turns)
            except ModelBehaviorError as error:
                # Not the mistake of the model that called this tool.
                raise ToolError(f"agent {self.name!r}: {error}") from error
            if custom_output_extractor is None:
                return serialise(result.final_output)
            text: str = await answer_of("custom_output_extractor", custom_output_extractor, result)
            return text

        return FunctionTool(
            name=tool_name or re.sub(r"[^a-zA-Z0-9_]+", "_", self.name).strip("_").lower() or "agent",
            description=tool_description or "",
            params_json_schema={
                "type": "object",
                "properties": {"input": {"type": "string"}},
                "required": ["input"],
                "additionalProperties": False,
            },
            on_invoke_tool=answer,
            is_enabled=is_enabled,
            needs_approval=needs_approval,
            failure_error_function=failure_error_function,
            timeout_seconds=timeout_seconds,
        )

    async def _instructed(self, context: RunContextWrapper[Any]) -> str | None:
        if not callable(self.instructions):
            return self.instructions
        text = await answer_of(f"instructions of {self.name!r}", self.instructions, context, self)
        if not isinstance(text, str):
            raise UserError(f"Agent {self.name!r}: instructions returned {type(text).__name__}, not text")
        return text

    def _check_output_type(self) -> None:
        try:
            adapter_of(self.output_type)
        except Exception as error:  # pydantic has a dozen ways to say that a type has no schema
            why = str(error).partition("\n")[0]
            raise self._wrong("output_type", f"must be a type with a JSON schema ({why})", self.output_type) from error

    def _wrong(self, name: str, rule: str, value: object) -> WrongTypeError:
        return WrongTypeError(f"Agent {self.name!r}: {name} {rule}, not {value!r}")


def _check_turns(max_turns: int) -> None:
    if isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1:
        raise UserError(f"max_turns must be a whole number from 1, not {max_turns!r}")
