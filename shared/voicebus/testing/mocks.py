"""`mock_tools`: other tools behind the names of an agent's own, for the time of a test."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voicebus.agents import checking
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import ToolContext
from voicebus.agents.functions import call_function, is_async_callable
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.tools.function_tool import FunctionTool
from voicebus.agents.tools.python_call import PythonCall, parse_arguments
from voicebus.agents.tools.remote import RemoteTool
from voicebus.errors import UserError

if TYPE_CHECKING:
    from voicebus.agents.session import RealtimeSession

_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True)
class MockedCall:
    """One call of a replaced tool. `arguments` by name, as the tool itself would have got them; `error` is what the
    stand-in raised, `output` what it returned."""

    tool: str
    arguments: Mapping[str, Any]
    call_id: str
    output: Any = None
    error: BaseException | None = None


@dataclass
class MockedTools:
    """The stand-ins of a `mock_tools` block. `calls` are all of them so far, in the order in which they ended."""

    calls: list[MockedCall] = field(default_factory=list)

    def of(self, tool: str) -> list[MockedCall]:
        """The calls of one tool."""
        return [call for call in self.calls if call.tool == tool]


def mock_tools(
    of: "RealtimeAgent[Any] | RealtimeRunner | RealtimeSession | Iterable[RealtimeAgent[Any]]",
    stand_ins: Mapping[str, Any],
) -> AbstractContextManager[MockedTools]:
    """Let other things answer to tools of `of` (an agent, several, a runner, a session), while the block runs.

        with mock_tools(agent, {"get_weather": "sunny", "book_room": lambda guest: {"reference": "A1"}}) as tools:
            ...
        assert tools.calls[0].arguments == {"city": "Paris"}

    A stand-in is a function (sync or async; it gets those arguments of the call that it names, and the `ToolContext`
    if it names one `context`), an exception (raised), or a value (returned). Everything else about the tools stays:
    their schema, which checks the arguments, guardrails, approval, and what the model is told of errors. Tools of
    agents that are reached by handoffs are replaced too, also for sessions that run already. Only sessions of this
    process are concerned.

    Raises UserError where `stand_ins` is no dictionary, and on entering:
        UserError: no agent has a tool of that name, or it is one that runs elsewhere (hosted by the model's side).
    """
    checking.mapping("mock_tools", "stand_ins", stand_ins)
    return _mocking(of, stand_ins)


@contextmanager
def _mocking(of: Any, stand_ins: Mapping[str, Any]) -> Iterator[MockedTools]:
    agents = _reached(of)
    mocked = MockedTools()
    with ExitStack() as restored:
        for name, stand_in in stand_ins.items():
            _replace(agents, name, stand_in, mocked, restored)
        yield mocked


def _replace(
    agents: list[RealtimeAgent[Any]], name: str, stand_in: Any, mocked: MockedTools, restored: ExitStack
) -> None:
    found = [(agent, tool) for agent in agents for tool in agent.tools if _name(tool) == name]
    if not found:
        known = sorted({_name(tool) for agent in agents for tool in agent.tools})
        raise UserError(f"mock_tools: no agent has a tool {name!r}; there are {', '.join(known) or 'none'}")
    patched: set[int] = set()
    for agent, tool in found:
        if isinstance(tool, FunctionTool):
            if id(tool) not in patched:
                patched.add(id(tool))
                # In its place: sessions that run already keep the tool itself, not the agent's list.
                restored.callback(_put, tool, tool.on_invoke_tool)
                _put(tool, _stand_in(name, stand_in, mocked, tool.on_invoke_tool))
        elif isinstance(tool, RemoteTool):
            local = FunctionTool(
                name, f"Stands in for {name}.", dict(_ANY_OBJECT), _stand_in(name, stand_in, mocked, None),
                strict_json_schema=False,
            )  # fmt: skip
            place = agent.tools.index(tool)
            restored.callback(agent.tools.__setitem__, place, tool)
            agent.tools[place] = local
        else:
            raise UserError(f"mock_tools: {name!r} is a {type(tool).__name__}, which the model's side runs; it stays")


def _put(tool: FunctionTool, call: Callable[[ToolContext[Any], str], Any]) -> None:
    object.__setattr__(tool, "on_invoke_tool", call)
    tool.__dict__.pop("is_async", None)  # which is kept, and may be other for this one


def _stand_in(
    name: str, stand_in: Any, mocked: MockedTools, original: Callable[..., Any] | None
) -> Callable[[ToolContext[Any], str], Any]:
    async def answer(context: ToolContext[Any], arguments: str) -> Any:
        given = _arguments(original, context, arguments)
        try:
            output = await _answer(stand_in, given, context)
        except BaseException as error:  # also where the call is cancelled: it was made all the same
            mocked.calls.append(MockedCall(name, given, context.tool_call_id, error=error))
            raise
        mocked.calls.append(MockedCall(name, given, context.tool_call_id, output=output))
        return output

    if original is not None:
        # Who looks for the author's function (its module names the queue) finds it.
        functools.update_wrapper(answer, original.function if isinstance(original, PythonCall) else original)
    return answer


def _arguments(original: Any, context: ToolContext[Any], arguments: str) -> dict[str, Any]:
    """The call's arguments by name; checked where the tool checks them.

    Raises:
        ModelBehaviorError: they do not fit the tool's schema, or are no JSON object.
    """
    if not isinstance(original, PythonCall):
        return dict(parse_arguments(arguments))
    positional, named = original.bind(context, arguments)
    bound = original.schema.signature.bind(*positional, **named).arguments
    named_by_author: dict[str, Any] = {}
    for name, value in bound.items():
        if original.schema.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named_by_author.update(value)
        elif value is not context:
            named_by_author[name] = value
    return named_by_author


async def _answer(stand_in: Any, given: Mapping[str, Any], context: ToolContext[Any]) -> Any:
    if isinstance(stand_in, BaseException) or (isinstance(stand_in, type) and issubclass(stand_in, BaseException)):
        raise stand_in
    if not callable(stand_in):
        return stand_in
    offered = {"context": context, **given}
    parameters = inspect.signature(stand_in).parameters
    taken = {name: offered[name] for name in parameters if name in offered}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        taken.update(given)
    is_async = is_async_callable(stand_in)
    return await call_function(stand_in, (), taken, is_async=is_async, executor=None, what="stand-in")


def _reached(of: Any) -> list[RealtimeAgent[Any]]:
    """The agents meant, and those that they hand off to."""
    if isinstance(of, RealtimeAgent):
        start = [of]
    elif isinstance(of, RealtimeRunner):
        start = [of.starting_agent]
    elif isinstance(getattr(of, "current_agent", None), RealtimeAgent):
        start = [of.current_agent]
    elif isinstance(of, Iterable):
        start = list(of)
    else:
        raise UserError(f"mock_tools needs an agent, several, a runner or a session, not {of!r}")
    found: dict[int, RealtimeAgent[Any]] = {}
    waiting = start
    while waiting:
        agent = waiting.pop()
        if not isinstance(agent, RealtimeAgent):
            raise UserError(f"mock_tools needs agents, not {agent!r}")
        if id(agent) not in found:
            found[id(agent)] = agent
            waiting.extend(handoff.agent for handoff in agent.all_handoffs() if handoff.agent is not None)
    return list(found.values())


def _name(tool: Any) -> str:
    return str(getattr(tool, "name", type(tool).__name__))
