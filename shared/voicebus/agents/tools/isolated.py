"""A function tool in a process of its own (`executor="process"`): what goes there, what comes back, and its limits."""

import asyncio
import contextlib
import importlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voicebus.agents.context import ToolContext
from voicebus.errors import ToolProcessError, UserError
from voicebus.runtime.processes import ProcessPool, Said

_UNITS: Final = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
# Less than that and Python itself does not get far.
_LEAST_MEMORY: Final = 1024**2


@dataclass(frozen=True)
class _Call:
    """A function by its name, and what it is called with. `context` are the fields of the context, if it takes one."""

    module: str
    qualname: str
    positional: list[Any]
    named: dict[str, Any]
    context: dict[str, Any] | None = None
    memory: int | None = None


@dataclass(frozen=True)
class _Done:
    """What a function returned, and the fields of the session's context that it has set, and removed."""

    returned: Any
    changed: dict[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


def check_isolated(tool: str, function: Callable[..., Any]) -> None:
    """Refuse a function that another process could not find.

    Raises:
        UserError: it is no function of a module.
    """
    name = getattr(function, "__qualname__", "")
    if not inspect.isroutine(function) or not name or "<" in name or function.__module__ == "__main__":
        raise UserError(
            f"tool {tool!r}: executor='process' needs a function of a module that another process can import, "
            f"not of the main script or of another function; move {function!r} there"
        )


def read_memory(tool: str, limit: Any) -> int | None:
    """`memory_limit` in bytes: a number of them, or a text such as "512MB".

    Raises:
        UserError: it is neither, or less than 1 MB.
    """
    if limit is None:
        return None
    size: Any = limit
    if isinstance(limit, str):
        text = limit.strip().upper()
        unit = next((unit for unit in ("KB", "MB", "GB", "B") if text.endswith(unit)), "")
        number = text.removesuffix(unit).strip()
        size = int(number) * _UNITS.get(unit, 0) if number.isdecimal() else None
    if isinstance(size, bool) or not isinstance(size, int) or size < _LEAST_MEMORY:
        raise UserError(
            f"tool {tool!r}: memory_limit must be a number of bytes from 1 MB, or a text such as '512MB', not {limit!r}"
        )
    return size


async def run_isolated(
    pool: ProcessPool,
    function: Callable[..., Any],
    context: ToolContext[Any],
    positional: list[Any],
    named: Mapping[str, Any],
    memory: int | None,
) -> Any:
    """Run `function` in one of the pool's processes. Cancelled, it is killed; a process that is still importing what it
    needs is left to the next call.

    The session's context goes there as a copy; the fields of it that the function sets are set here when it ends.

    Raises:
        ToolProcessError: the process died, ran out of its memory, or something cannot be sent there or back.
        Exception: what the function raised.
    """
    takes_context = bool(positional) and positional[0] is context
    call = _Call(
        function.__module__,
        function.__qualname__,
        positional[1:] if takes_context else positional,
        dict(named),
        _packed(context) if takes_context else None,
        memory,
    )
    pool.imports([function])
    reports = context.reports
    done: _Done = await pool.run(_run, call, reports if reports is not None else _unheard)
    if isinstance(context.context, dict):
        context.context.update(done.changed)
        for name in done.removed:
            context.context.pop(name, None)
    else:
        for name, value in done.changed.items():
            object.__setattr__(context.context, name, value)
    return done.returned


def _unheard(text: str) -> None:
    """Progress of a tool that nobody listens to."""


def _packed(context: ToolContext[Any]) -> dict[str, Any]:
    names = ("context", "tool_name", "tool_call_id", "tool_arguments", "session", "deadline_s", "state", "attempt")
    agent = None if context.agent is None else context.agent.name
    return {**{name: getattr(context, name) for name in names}, "caller": context.caller, "agent": agent}


# --- in the process -------------------------------------------------------------------------------


def _run(call: _Call, say: Said) -> _Done:
    function = _function(call)
    positional, context, before = list(call.positional), None, dict[str, bytes]()
    if call.context is not None:
        context = _context(call.context, say)
        positional.insert(0, context)
        before = _fields(context.context)
    try:
        with _memory(call.memory):
            returned = function(*positional, **call.named)
            if inspect.isawaitable(returned):
                returned = asyncio.run(_awaited(returned))
    except MemoryError as error:
        if call.memory is None:
            raise
        limit = call.memory // 1024**2
        raise ToolProcessError("memory_limit", f"it needed more memory than its limit of {limit} MB") from error
    after = {} if context is None else _fields(context.context)
    changed = {name: pickle.loads(value) for name, value in after.items() if before.get(name) != value}  # noqa: S301
    return _Done(returned, changed, tuple(name for name in before if name not in after))


def _function(call: _Call) -> Callable[..., Any]:
    found: Any = importlib.import_module(call.module)
    for part in call.qualname.split("."):
        found = getattr(found, part)
    # What stands there under its name is mostly the tool that was made of it.
    found = getattr(found, "function", found)
    if not callable(found):
        raise ToolProcessError("not_sendable", f"{call.module}.{call.qualname} is no function in another process")
    return found  # type: ignore[no-any-return]


def _context(packed: Mapping[str, Any], say: Said) -> ToolContext[Any]:
    from voicebus.agents.agent import RealtimeAgent

    fields = dict(packed)
    agent, value = fields.pop("agent"), fields.pop("context")
    return ToolContext(value, agent=None if agent is None else RealtimeAgent(agent), reports=say, **fields)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _fields(context: Any) -> dict[str, bytes]:
    """The fields of a context, pickled, so that a change inside of one is seen."""
    fields = context if isinstance(context, dict) else getattr(context, "__dict__", None) or {}
    found: dict[str, bytes] = {}
    for name, value in fields.items():
        with contextlib.suppress(Exception):  # what cannot be sent back stays as it was
            found[str(name)] = pickle.dumps(value)
    return found


@contextlib.contextmanager
def _memory(limit: int | None) -> Iterator[None]:
    """Let this process take so much more memory than it has (bytes)."""
    if limit is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_size() + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_size() -> int:
    """What `RLIMIT_DATA` counts of this process (bytes)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024
