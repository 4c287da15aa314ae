"""The sockets of a session: who hears of which, and when."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from support.waiting import wait_until
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelLink, ModelListener
from voicebus.runtime.links import Links


class Link:
    def __init__(self) -> None:
        self.closed = False

    def send(self, event: Mapping[str, Any]) -> None: ...

    def send_frame(self, frame: bytes) -> None: ...

    async def close(self) -> None:
        self.closed = True


class World:
    """Connector, listener and answers in one, which notes everything in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ears: list[ModelListener] = []
        self.made: list[Link] = []
        self.fails: Exception | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.links = Links(("one", "two"), self, self, self.job)

    def job(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        self.ears.append(listener)
        listener.model_frame(b"early")
        if self.fails is not None:
            raise self.fails
        self.made.append(Link())
        self.seen.append(f"dialled {model}")
        return self.made[-1]

    def model_frame(self, frame: bytes) -> None:
        self.seen.append(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self.seen.append(why)

    def link_opened(self) -> None:
        self.seen.append("opened")

    def link_failed(self, error: ModelLinkError) -> None:
        self.seen.append(str(error))

    def spare_opened(self) -> None:
        self.seen.append("spare opened")

    def spare_failed(self, why: str) -> None:
        self.seen.append(f"spare: {why}")

    def spare_frame(self, frame: bytes) -> None:
        self.seen.append((b"spare", frame))

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)


async def test_what_a_socket_says_while_it_is_opened_comes_behind_its_opening() -> None:
    world = World()
    await world.links.first((world,))
    world.links.dial(1)
    await world.settled()
    assert world.seen == [b"early", "dialled one", "dialled two", "opened", b"early"]
    await world.links.aclose()


async def test_nothing_is_heard_of_a_socket_that_is_not_in_use() -> None:
    world = World()
    await world.links.first((world,))
    world.links.drop()
    world.ears[0].model_frame(b"late")
    world.ears[0].model_lost("late", 1006)
    assert world.seen == [b"early", "dialled one"]
    await wait_until(lambda: world.made[0].closed, description="the socket to be closed")


async def test_the_spare_socket_speaks_for_itself_until_it_is_the_one_in_use() -> None:
    world = World()
    await world.links.first((world,))
    world.links.dial_spare(0)
    await world.settled()
    world.links.switch()
    world.ears[1].model_frame(b"now")
    world.ears[0].model_frame(b"late")
    assert world.seen[2:] == ["dialled one", "spare opened", (b"spare", b"early"), b"now"]
    assert world.links.link is world.made[1]
    await world.links.aclose()
    assert all(link.closed for link in world.made)


async def test_whatever_dialling_raises_is_a_failure_that_can_be_tried_again() -> None:
    world = World()
    await world.links.first((world,))
    world.fails = ValueError("no token today")
    world.links.dial(0)
    world.links.dial_spare(0)
    await world.settled()
    assert world.seen[2:] == ["the model cannot be dialled: no token today", "spare: no token today"]
    await world.links.aclose()
