"""Where replies to commands go: to a future of one command, or to their places among those of several."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Reply(Protocol):
    """What a way to Redis needs of a future."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...

    def exception(self) -> BaseException | None: ...


Refuse = Callable[[Reply, Exception], None]


class Replies:
    """The replies to `count` commands: `all` brings them once the last of them is there, errors as they are."""

    def __init__(self, count: int) -> None:
        self.all: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.parts: list[Reply] = [_Part(self, place) for place in range(count)]
        self._values: list[Any] = [None] * count
        self._missing = count
        if not count:
            self.all.set_result([])

    def put(self, place: int, value: Any) -> None:
        self._values[place] = value
        self._missing -= 1
        if not self._missing and not self.all.done():  # else its caller was cancelled
            self.all.set_result(self._values)


class _Part:
    """The reply to one of several commands. Implements `Reply`."""

    __slots__ = ("_place", "_replies")

    def __init__(self, replies: Replies, place: int) -> None:
        self._replies = replies
        self._place = place

    def done(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self._replies.put(self._place, result)

    def set_exception(self, exception: Exception, /) -> None:
        self._replies.put(self._place, exception)

    def exception(self) -> None:
        return None
