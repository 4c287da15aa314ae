"""Scripts that take several runs at once: those of one turn of the event loop are sent as one.

Under load a command costs more than what it does, so that a hundred claims in one script cost little more than ten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from voicebus.adapters.redis.scripts import Script
from voicebus.errors import BusError

# A script holds Redis up for as long as it runs: some 5 ms for so many runs.
_LIMIT: Final = 128

RunScript = Callable[[Script, list[str], Sequence[str | int]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Run:
    keys: list[str]
    arguments: tuple[str | int, ...]
    reply: asyncio.Future[Any]


class ScriptBatches:
    """Gathers runs of scripts that may run `together`. `run` sends one script; what it raises, each of its runs raises.

    Runs are together only where their keys share a hash tag, as all keys of a script must.
    """

    def __init__(self, run: RunScript) -> None:
        self._run = run
        # Bounded by its callers: each waits for its own reply.
        self._gathered: dict[tuple[str, str], list[_Run]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, script: Script, keys: list[str], arguments: tuple[str | int, ...]) -> asyncio.Future[Any]:
        """Have the script run soon; the future brings the reply to this run alone."""
        loop = asyncio.get_running_loop()
        run = _Run(keys, arguments, loop.create_future())
        place = script.sha, keys[0].partition("{")[2].partition("}")[0]
        gathered = self._gathered.get(place)
        if gathered is None:
            self._gathered[place] = [run]
            loop.call_soon(self._send, script, place)
        else:
            gathered.append(run)
        return run.reply

    def _send(self, script: Script, place: tuple[str, str]) -> None:
        runs = self._gathered.pop(place)
        for start in range(0, len(runs), _LIMIT):
            task = asyncio.create_task(self._together(script, runs[start : start + _LIMIT]), name=script.name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _together(self, script: Script, runs: list[_Run]) -> None:
        keys = [key for run in runs for key in run.keys]
        arguments = [argument for run in runs for argument in run.arguments]
        try:
            flat = await self._run(script, keys, arguments)
        except BusError as error:
            if len(runs) > 1 and isinstance(error.__cause__, ResponseError):
                # One odd key must not harm the others. What had been done by then may be done again.
                for run in runs:
                    await self._together(script, [run])
                return
            for run in runs:
                if not run.reply.done():
                    run.reply.set_exception(error)
                    run.reply.exception()  # a caller that was cancelled fetches nothing
            return
        width = len(flat) // len(runs)
        for number, run in enumerate(runs):
            if not run.reply.done():
                run.reply.set_result(flat[number * width : (number + 1) * width])
