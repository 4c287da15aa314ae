"""Scripts that take several runs at once: those of one turn of the event loop are sent as one.

Under load a command costs more than what it does, so that a hundred claims in one script cost little more than ten.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from voicebus.adapters.redis.scripts import Script
from voicebus.errors import BusError

# A script holds Redis up for as long as it runs: some 5 ms for so many runs.
_LIMIT: Final = 128

Submit = Callable[..., asyncio.Future[Any]]
RunScript = Callable[[Script, list[str], Sequence[str | int]], Awaitable[Any]]


_Run = tuple[list[str], tuple[str | int, ...], asyncio.Future[Any]]
"""Keys, arguments, and where the reply goes."""


class ScriptBatches:
    """Gathers runs of scripts that may run `together`.

    `submit` queues a command; `run` runs a script that the server may not know yet. Runs are together only where their
    first keys share a hash tag.
    """

    def __init__(self, submit: Submit, run: RunScript) -> None:
        self._submit = submit
        self._run = run
        # Bounded by its callers: each waits for its own reply.
        self._gathered: dict[tuple[str, str], list[_Run]] = {}
        self._apart: set[asyncio.Task[None]] = set()

    def submit(self, script: Script, keys: list[str], arguments: tuple[str | int, ...]) -> asyncio.Future[Any]:
        """Have the script run soon; the future brings the reply to this run alone."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        key = keys[0]
        place = script.sha, key[key.find("{") + 1 : key.find("}")]
        gathered = self._gathered.get(place)
        if gathered is None:
            self._gathered[place] = [(keys, arguments, reply)]
            loop.call_soon(self._send, script, place)
        else:
            gathered.append((keys, arguments, reply))
        return reply

    def _send(self, script: Script, place: tuple[str, str]) -> None:
        gathered = self._gathered.pop(place)
        for start in range(0, len(gathered), _LIMIT):
            runs = gathered[start : start + _LIMIT]
            keys = [key for named, _, _ in runs for key in named]
            arguments = [argument for _, given, _ in runs for argument in given]
            reply = self._submit(script.by_digest, script.sha, len(keys), *keys, *arguments)
            reply.add_done_callback(lambda reply, runs=runs: self._replied(script, runs, reply))  # type: ignore[misc]

    def _replied(self, script: Script, runs: list[_Run], reply: asyncio.Future[Any]) -> None:
        error = reply.exception()
        if error is None:
            flat = reply.result()
            width = len(flat) // len(runs)
            for number, (_, _, own) in enumerate(runs):
                if not own.done():  # else its caller was cancelled
                    own.set_result(flat[number * width : (number + 1) * width])
        elif isinstance(error.__cause__, ResponseError):
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


def _refuse(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # a caller that was cancelled fetches nothing
