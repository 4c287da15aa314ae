"""A guardrail's function in a process of its own (`executor="process"`): what goes there, and what comes back."""

import asyncio
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voicebus.agents.context import RunContextWrapper
from voicebus.errors import ToolProcessError, UserError
from voicebus.runtime.processes import ProcessPool, Said


@dataclass(frozen=True)
class _Question:
    """A function by its name, and what it is asked. Of the agent only its name goes there."""

    module: str
    qualname: str
    context: Any
    agent: str | None
    text: Any


def check_apart(kind: str, name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that another process could not find.

    Raises:
        UserError: it is no function of a module.
    """
    qualname = getattr(function, "__qualname__", "")
    if not inspect.isroutine(function) or not qualname or "<" in qualname or function.__module__ == "__main__":
        raise UserError(
            f"{kind} {name!r}: executor='process' needs a function of a module that another process can import, "
            f"not of the main script or of another function; move {function!r} there"
        )


async def call_apart(
    pool: ProcessPool, function: Callable[..., Any], context: RunContextWrapper[Any], agent: Any, text: Any
) -> Any:
    """What `function(context, agent, text)` returns in one of the pool's processes. Cancelled, it is killed; a process
    that is still importing what it needs is left to the next one.

    Raises:
        ToolProcessError: the process died, or something cannot be sent there or back.
        Exception: what the function raised.
    """
    name = getattr(agent, "name", None)
    question = _Question(function.__module__, function.__qualname__, context.context, name, text)
    pool.imports([function])
    return await pool.run(_ask, question, _unheard)


def _unheard(what: Any) -> None:
    """Guardrails say nothing while they judge."""


# --- in the process -------------------------------------------------------------------------------


def _ask(question: _Question, say: Said) -> Any:
    from voicebus.agents.agent import RealtimeAgent

    found: Any = importlib.import_module(question.module)
    for part in question.qualname.split("."):
        found = getattr(found, part)
    # What stands there under its name is mostly the guardrail that was made of it.
    function = getattr(found, "guardrail_function", found)
    if not callable(function):
        raise ToolProcessError("not_sendable", f"{question.module}.{question.qualname} is no function there")
    agent: Any = None if question.agent is None else RealtimeAgent(question.agent)
    returned = function(RunContextWrapper(question.context), agent, question.text)
    return asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
