"""Scripts that take several runs at once: those of one turn of the event loop are sent as one.

Under load a command costs more than what it does, so that a hundred claims in one script cost little more than ten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from voicebus.adapters.redis.replies import Reply
from voicebus.adapters.redis.scripts import Script
from voicebus.errors import BusError

# A script holds Redis up for as long as it runs: some 5 ms for so many runs.
_LIMIT: Final = 128

Submit = Callable[[Sequence[str | int], Reply], None]
Defer = Callable[[Callable[[], None]], None]
RunScript = Callable[[Script, list[str], Sequence[str | int]], Awaitable[Any]]


_Run = tuple[list[str], tuple[str | int, ...], asyncio.Future[Any]]
"""Keys, arguments, and where the reply goes."""


class ScriptBatches:
    """Gathers runs of scripts that may run `together`.

    `submit` queues a command for a reply; `defer` has something done just before the next commands leave, in a later
    turn of the loop; `run` runs a script that the server may not know yet. Runs are together only where their
    first keys share a hash tag.
    """

    def __init__(self, submit: Submit, defer: Defer, run: RunScript) -> None:
        self._submit = submit
        self._defer = defer
        self._run = run
        # Bounded by its callers: each waits for its own reply.
        self._gathered: dict[tuple[str, str], list[_Run]] = {}
        self._apart: set[asyncio.Task[None]] = set()

    def submit(self, script: Script, keys: list[str], arguments: tuple[str | int, ...]) -> asyncio.Future[Any]:
        """Have the script run soon; the future brings the reply to this run alone."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        key = keys[0]
        place = script.sha, key[key.find("{") + 1 : key.find("}")]
        gathered = self._gathered.get(place)
        if gathered is None:
            self._gathered[place] = [(keys, arguments, reply)]
            self._defer(partial(self._send, script, place))
        else:
            gathered.append((keys, arguments, reply))
        return reply

    def _send(self, script: Script, place: tuple[str, str]) -> None:
        gathered = self._gathered.pop(place)
        for start in range(0, len(gathered), _LIMIT):
            runs = gathered[start : start + _LIMIT]
            keys = [key for named, _, _ in runs for key in named]
            arguments = [argument for _, given, _ in runs for argument in given]
            command = (script.by_digest, script.sha, len(keys), *keys, *arguments)
            self._submit(command, _Together(self, script, runs))

    def refused(self, script: Script, runs: list[_Run], error: Exception) -> None:
        """None of these runs has a reply."""
        if isinstance(error.__cause__, ResponseError):
            # The server does not know the script yet, or one key is odd, which must not harm the others.
            task = asyncio.create_task(self._one_by_one(script, runs), name=f"script {script.name}")
            self._apart.add(task)
            task.add_done_callback(self._apart.discard)
        else:
            for _, _, own in runs:
                _refuse(own, error)

    async def _one_by_one(self, script: Script, runs: list[_Run]) -> None:
        """What had been done already may be done again."""
        for keys, arguments, own in runs:
            try:
                reply = await self._run(script, keys, arguments)
            except BusError as error:
                _refuse(own, error)
            else:
                if not own.done():
                    own.set_result(reply)


class _Together:
    """The reply to several runs, each of which gets its part. Implements `Reply`."""

    __slots__ = ("_batches", "_runs", "_script")

    def __init__(self, batches: ScriptBatches, script: Script, runs: list[_Run]) -> None:
        self._batches = batches
        self._script = script
        self._runs = runs

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        width = len(result) // len(self._runs)
        for number, (_, _, own) in enumerate(self._runs):
            if not own.done():  # else its caller was cancelled
                own.set_result(result[number * width : (number + 1) * width])

    def set_exception(self, exception: Exception, /) -> None:
        self._batches.refused(self._script, self._runs, exception)

    def exception(self) -> None:
        return None


def _refuse(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # a caller that was cancelled fetches nothing
