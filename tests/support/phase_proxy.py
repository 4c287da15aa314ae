"""A proxy before a model that cuts the sockets of a conversation at exact events of it, or answers for the model.

A conversation is told from others by the model that it asks for: `?model=NAME`.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Sender = Literal["model", "gateway"]

OPENING: Final = "opening"
"""What a model is taken to send as soon as a socket is open; a cut there lets nothing through."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut a socket at the `number`-th `event` that `sender` sends on it from now on, which `passes` or is lost too.

    `socket` 0 is the one that is open now, 1 the next one, and so on.
    """

    event: str
    sender: Sender = "model"
    number: int = 1
    socket: int = 0
    passes: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer an `event` of the gateway's, the next one, with what `says` makes of it, beside the model or instead."""

    event: str
    says: Callable[[dict[str, Any]], list[dict[str, Any]]]
    passes: bool


@dataclass(eq=False)
class Way:
    """One socket of a conversation, and the one behind it to the model."""

    gateway: ServerConnection
    seen: Counter[tuple[Sender, str]] = field(default_factory=Counter)
    cuts: list[Cut] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    model: ClientConnection | None = None
    is_cut: bool = False

    def cut(self) -> None:
        """End both, with neither a close frame nor a loss of what has passed already."""
        self.is_cut = True
        if self.gateway.transport.can_write_eof() and not self.gateway.transport.is_closing():
            self.gateway.transport.write_eof()
        if self.model is not None:
            self.model.transport.abort()

    def passing(self, sender: Sender, event: str) -> Cut | None:
        """Count an event; returns the cut that is due at it."""
        self.seen[sender, event] += 1
        for cut in self.cuts:
            if (cut.sender, cut.event) == (sender, event) and cut.number == self.seen[sender, event]:
                self.cuts.remove(cut)
                return cut
        return None


@dataclass
class Conversation:
    """The sockets of one conversation in the order in which they were opened.

    `lives_s`: how long the model says that the first one lives; as long as it likes where None.
    """

    ways: list[Way] = field(default_factory=list)
    lives_s: float | None = None
    _to_come: dict[int, list[Cut]] = field(default_factory=dict)

    def arm(self, *cuts: Cut) -> None:
        """Have sockets cut; events are counted from now on."""
        newest = len(self.ways) - 1
        for way in self.ways:
            way.seen.clear()
        for cut in cuts:
            place = newest + cut.socket
            (self.ways[place].cuts if place <= newest else self._to_come.setdefault(place, [])).append(cut)

    @property
    def armed(self) -> list[Cut]:
        """The cuts that have not been made."""
        return [cut for way in self.ways for cut in way.cuts] + [cut for cuts in self._to_come.values() for cut in cuts]

    def cut(self) -> None:
        """Cut what is open now."""
        for way in self.ways:
            if not way.is_cut:
                way.cut()

    def opened(self, gateway: ServerConnection) -> Way:
        way = Way(gateway, cuts=self._to_come.pop(len(self.ways), []))
        self.ways.append(way)
        return way


class PhaseProxy:
    """`url` stands for the model's; `conversation` is found or made by the name of the model that it asks for."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.url = ""
        self._conversations: dict[str, Conversation] = {}

    def conversation(self, model: str) -> Conversation:
        return self._conversations.setdefault(model, Conversation())

    async def handle(self, gateway: ServerConnection) -> None:
        assert gateway.request is not None
        query = urlsplit(gateway.request.path).query
        talk = self.conversation(parse_qs(query)["model"][0])
        way = talk.opened(gateway)
        if way.passing("model", OPENING):
            way.cut()
            await gateway.wait_closed()
            return
        key = {"Authorization": gateway.request.headers["Authorization"]}
        async with connect(f"{self._target}?{query}", additional_headers=key, max_size=None) as model:
            way.model = model
            relays = {
                asyncio.create_task(_relay(way, "gateway", gateway, model, talk), name="to the model"),
                asyncio.create_task(_relay(way, "model", model, gateway, talk), name="to the gateway"),
            }
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
            if way.is_cut:
                await gateway.wait_closed()
            else:
                await gateway.close()
            await model.close()
            await asyncio.gather(*relays)


async def _relay(
    way: Way,
    sender: Sender,
    source: ServerConnection | ClientConnection,
    sink: ServerConnection | ClientConnection,
    talk: Conversation,
) -> None:
    try:
        async for frame in source:
            if way.is_cut:
                continue
            event = json.loads(frame)
            reply = next((one for one in way.replies if sender == "gateway" and one.event == event["type"]), None)
            if reply is not None:
                way.replies.remove(reply)
                for said in reply.says(event):
                    await way.gateway.send(json.dumps(said))
                if not reply.passes:
                    continue
            cut = way.passing(sender, event["type"])
            if cut is None or cut.passes:
                await sink.send(_shortened(event, talk) if event["type"] == "session.created" else frame)
            if cut is not None:
                way.cut()
    except ConnectionClosed:
        pass  # either side may leave, and the other one is told


def _shortened(event: dict[str, Any], talk: Conversation) -> str:
    lives_s, talk.lives_s = talk.lives_s, None
    if lives_s is not None:
        event["session"]["expires_at"] = time.time() + lives_s
    return json.dumps(event)


@asynccontextmanager
async def phase_proxy(target: str) -> AsyncIterator[PhaseProxy]:
    """Stand in for the model at `target` (`ws://host:port/path`) while the block runs."""
    proxy = PhaseProxy(target)
    async with serve(proxy.handle, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        proxy.url = f"ws://127.0.0.1:{port}/v1/realtime"
        yield proxy
