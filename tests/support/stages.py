"""One conversation, held in one process or through the whole cluster, and read the same way in both.

In process it is a `RealtimeSession`; in the cluster a client of a gateway's native face, with tool worker, guardrail
worker and Redis behind it. The model is whatever server the test gives, over a real socket.
"""

import asyncio
import base64
import contextlib
import functools
import itertools
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import websockets
from websockets.exceptions import ConnectionClosed

from support.waiting import wait_until
from voicebus import RealtimeAgent, RealtimeRunConfig, RealtimeRunner, RealtimeSession
from voicebus.agents.targets import Targets, load_targets
from voicebus.agents.tools.worker import ToolWorker
from voicebus.telemetry.health import Health
from voicebus_services.gateway.wiring import running_gateway
from voicebus_services.guardrail_worker.wiring import work
from voicebus_services.settings import GatewaySettings, GuardrailWorkerSettings

IN_PROCESS: Final = "in one process"
CLUSTER: Final = "through the cluster"

RECORDED_ONLY: Final = frozenset(
    {"session_started", "item_recorded", "turn_ended", "session_ended", "tool_approval_decided"}
)
"""Recorded events that the programming model has no event for: records, in both modes."""

_NOT_COMPARED: Final = frozenset({"raw_model_event", "ack"})
# What a frame of the native face has beside the event's own fields, what depends on time, and what only records have.
_ENVELOPE: Final = frozenset(
    {"seq", "session", "at", "id", "started_ms", "ended_ms", "duration_ms", "at_ms", "worker", "withheld"}
)

_SESSION_ID: Final = re.compile(r"vb_[0-9A-Z]{8,}_")

_numbers = itertools.count(1)


class Server(Protocol):
    """Where a model is: a scripted server, or a simulator."""

    @property
    def url(self) -> str: ...


class Conversation(ABC):
    """A conversation under test. `events` are those of the programming model so far, as JSON; `records` the others."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.ended = asyncio.Event()
        self._read = 0

    # --- what a program does --------------------------------------------------------------------------

    @abstractmethod
    async def say(self, message: str | Sequence[Mapping[str, Any]]) -> None:
        """Send a user message: text, or content parts."""

    @abstractmethod
    async def send_audio(self, samples: bytes) -> None: ...

    @abstractmethod
    async def interrupt(self) -> None: ...

    @abstractmethod
    async def approve(self, call_id: str, *, always: bool = False) -> None: ...

    @abstractmethod
    async def reject(self, call_id: str, *, always: bool = False, message: str | None = None) -> None: ...

    @abstractmethod
    async def update_agent(self, agent: RealtimeAgent[Any]) -> None: ...

    @abstractmethod
    async def mute(self, muted: bool) -> None: ...

    @abstractmethod
    async def played(self, item_id: str, ms: float) -> None:
        """Report that so much of an item was played."""

    def another(self) -> AbstractAsyncContextManager["Conversation"]:
        """One more conversation at the same time, of the same runner or gateway."""
        return self._another()

    _another: Callable[[], AbstractAsyncContextManager["Conversation"]]

    # --- what came of it ------------------------------------------------------------------------------

    async def until(self, kind: str, *, within: float = 20.0, **having: Any) -> dict[str, Any]:
        """The next event of a kind (and with these fields) after the one that was waited for last."""

        def found() -> bool:
            return any(_fits(event, kind, having) for event in self.events[self._read :])

        await wait_until(found, description=f"{kind} {having or ''} after {self.kinds()}", timeout=within)
        for position in range(self._read, len(self.events)):
            if _fits(self.events[position], kind, having):
                self._read = position + 1
                return self.events[position]
        raise AssertionError("unreachable: it was there a moment ago")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def kinds(self, *leaving_out: str) -> list[str]:
        """The types of all events, in order, without raw ones."""
        return [event["type"] for event in self.events if event["type"] not in {*_NOT_COMPARED, *leaving_out}]

    def comparable(self) -> list[dict[str, Any]]:
        """The events without what differs between two runs: times, numbers of records, ids that a session makes."""
        return [_without_ids(_comparable(event)) for event in self.events if event["type"] not in _NOT_COMPARED]

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == kind]

    def _take(self, event: dict[str, Any]) -> None:
        (self.records if event["type"] in RECORDED_ONLY else self.events).append(event)


class _InProcess(Conversation):
    def __init__(self, session: RealtimeSession) -> None:
        super().__init__()
        self.session = session

    async def read(self) -> None:
        try:
            async for event in self.session:
                self._take(event.to_json())
        finally:
            self.ended.set()

    async def say(self, message: str | Sequence[Mapping[str, Any]]) -> None:
        if isinstance(message, str):
            await self.session.send_message(message)
        else:
            content: Any = [dict(part) for part in message]
            await self.session.send_message({"type": "message", "role": "user", "content": content})

    async def send_audio(self, samples: bytes) -> None:
        await self.session.send_audio(samples)

    async def interrupt(self) -> None:
        await self.session.interrupt()

    async def approve(self, call_id: str, *, always: bool = False) -> None:
        await self.session.approve_tool_call(call_id, always=always)

    async def reject(self, call_id: str, *, always: bool = False, message: str | None = None) -> None:
        await self.session.reject_tool_call(call_id, always=always, rejection_message=message)

    async def update_agent(self, agent: RealtimeAgent[Any]) -> None:
        await self.session.update_agent(agent)

    async def mute(self, muted: bool) -> None:
        self.session.mute(muted)

    async def played(self, item_id: str, ms: float) -> None:
        self.tracker.on_play_ms(item_id, 0, ms)

    tracker: Any = None


class _ThroughCluster(Conversation):
    def __init__(self, socket: websockets.ClientConnection) -> None:
        super().__init__()
        self._socket = socket
        self._numbers = itertools.count(1)
        self.answers: dict[str, dict[str, Any]] = {}

    async def read(self) -> None:
        try:
            async for frame in self._socket:
                event: dict[str, Any] = json.loads(frame)
                if event["type"] == "ack" or (event["type"] == "error" and event.get("id") is not None):
                    self.answers[event["id"]] = event
                else:
                    self._take(event)
        except ConnectionClosed:
            pass
        finally:
            self.ended.set()

    async def _command(self, kind: str, **fields: Any) -> None:
        """Send a command and wait until it was acknowledged."""
        command_id = f"c{next(self._numbers)}"
        await self._socket.send(json.dumps({"type": kind, "id": command_id, **fields}))
        await wait_until(lambda: command_id in self.answers or self.ended.is_set(), description=f"an answer to {kind}")

    async def say(self, message: str | Sequence[Mapping[str, Any]]) -> None:
        given: dict[str, Any] = {"text": message} if isinstance(message, str) else {"content": list(message)}
        await self._command("send_message", **given)

    async def send_audio(self, samples: bytes) -> None:
        await self._socket.send(samples)

    async def interrupt(self) -> None:
        await self._command("interrupt")

    async def approve(self, call_id: str, *, always: bool = False) -> None:
        await self._command("approve", call_id=call_id, always=always)

    async def reject(self, call_id: str, *, always: bool = False, message: str | None = None) -> None:
        await self._command("reject", call_id=call_id, always=always, message=message)

    async def update_agent(self, agent: RealtimeAgent[Any]) -> None:
        await self._command("update_agent", agent=agent.name)

    async def mute(self, muted: bool) -> None:
        await self._command("mute", muted=muted)

    async def played(self, item_id: str, ms: float) -> None:
        await self._command("playback", item_id=item_id, content_index=0, played_ms=ms)


class Stage(Protocol):
    """A way to hold a conversation. `name` is `IN_PROCESS` or `CLUSTER`."""

    name: str

    def conversation(
        self,
        agent: RealtimeAgent[Any],
        server: Server,
        config: RealtimeRunConfig | None = None,
        *,
        more: Sequence[RealtimeAgent[Any]] = (),
        reports_playback: bool = False,
    ) -> AbstractAsyncContextManager[Conversation]:
        """Talk to `agent` while the block runs; `more` agents may be named by `update_agent`.

        `reports_playback`: only what `played` says counts as heard.
        """
        ...


class InProcess:
    """A `RealtimeSession`, without Redis."""

    name = IN_PROCESS

    @asynccontextmanager
    async def conversation(
        self,
        agent: RealtimeAgent[Any],
        server: Server,
        config: RealtimeRunConfig | None = None,
        *,
        more: Sequence[RealtimeAgent[Any]] = (),
        reports_playback: bool = False,
    ) -> AsyncIterator[Conversation]:
        from voicebus import RealtimePlaybackTracker

        model_config: Any = {"url": server.url, "api_key": "test"}
        tracker = RealtimePlaybackTracker() if reports_playback else None
        if tracker is not None:
            model_config["playback_tracker"] = tracker
        runner = RealtimeRunner(agent, config=config)

        @asynccontextmanager
        async def held() -> AsyncIterator[Conversation]:
            async with await runner.run(model_config=model_config) as session:
                talk = _InProcess(session)
                talk.tracker, talk._another = tracker, held
                reading = asyncio.create_task(talk.read(), name="events")
                try:
                    yield talk
                finally:
                    await session.close()
                    await asyncio.gather(reading, return_exceptions=True)
                    talk.records.extend(session.records)

        async with held() as talk:
            yield talk


class Cluster:
    """A gateway, a tool worker and a guardrail worker on a real Redis, and a client of the native face."""

    name = CLUSTER

    def __init__(self, redis_url: str, stream_prefix: str) -> None:
        self._bus: dict[str, Any] = {"redis_url": redis_url, "stream_prefix": stream_prefix}

    @asynccontextmanager
    async def conversation(
        self,
        agent: RealtimeAgent[Any],
        server: Server,
        config: RealtimeRunConfig | None = None,
        *,
        more: Sequence[RealtimeAgent[Any]] = (),
        reports_playback: bool = False,
    ) -> AsyncIterator[Conversation]:
        with _module(agent, config, more) as name:
            targets = load_targets([name])
            settings = GatewaySettings(
                **self._bus, model_url=server.url, model_api_key="test", http_port=0, ops_port=0, drain_timeout=0
            )
            async with contextlib.AsyncExitStack() as services:
                if targets.tools:
                    await services.enter_async_context(ToolWorker(targets.tools.values(), **self._bus))
                judges = GuardrailWorkerSettings(**self._bus, ops_port=0, drain_timeout=0)
                await services.enter_async_context(_judging(judges, targets))
                gateway = await services.enter_async_context(running_gateway(settings, targets))
                held = functools.partial(through_gateway, f"http://127.0.0.1:{gateway.port}", agent.name)
                talk = await services.enter_async_context(held())
                talk._another = held
                yield talk


@asynccontextmanager
async def through_gateway(address: str, agent: str, **query: str) -> AsyncIterator[Conversation]:
    """Talk to an agent of the gateway at this address, over its native face."""
    asked = urlencode({"agent": agent, "audio": "json", **query})
    url = f"{address.replace('http', 'ws', 1)}/v1/sessions/connect?{asked}"
    async with websockets.connect(url, max_size=None) as socket:
        talk = _ThroughCluster(socket)
        reading = asyncio.create_task(talk.read(), name="events")
        try:
            yield talk
        finally:
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps({"type": "end"}))
            await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def _judging(settings: GuardrailWorkerSettings, targets: Targets) -> AsyncIterator[None]:
    """A guardrail worker while the block runs."""
    stop, ready = asyncio.Event(), asyncio.Event()
    working = asyncio.create_task(work(settings, targets, Health("redis"), stop, ready=ready.set), name="judging")
    try:
        await wait_until(lambda: ready.is_set() or working.done(), description="the guardrail worker")
        yield
    finally:
        stop.set()
        await working


@contextlib.contextmanager
def _module(agent: RealtimeAgent[Any], config: RealtimeRunConfig | None, more: Sequence[RealtimeAgent[Any]]) -> Any:
    """The agents as a module that TARGETs can name, as authors write one."""
    module = ModuleType(f"stage_{next(_numbers)}")
    entries = [RealtimeRunner(agent, config=config), *(RealtimeRunner(one, config=config) for one in more)]
    for number, entry in enumerate(entries):
        setattr(module, f"runner_{number}", entry)
    sys.modules[module.__name__] = module
    try:
        yield module.__name__
    finally:
        del sys.modules[module.__name__]


def _fits(event: Mapping[str, Any], kind: str, having: Mapping[str, Any]) -> bool:
    return event["type"] == kind and all(event.get(name) == value for name, value in having.items())


def _without_ids(value: Any) -> Any:
    """The ids that a session makes hold its own id; what is left of them is the same in every run."""
    if isinstance(value, str):
        return _SESSION_ID.sub("vb_", value)
    if isinstance(value, dict):
        return {name: _without_ids(inner) for name, inner in value.items()}
    return [_without_ids(inner) for inner in value] if isinstance(value, list) else value


def _comparable(event: Mapping[str, Any]) -> dict[str, Any]:
    """One event without what is told apart in two runs by their times; of sound its length."""
    shown = {name: value for name, value in event.items() if name not in _ENVELOPE}
    if event["type"] == "audio":
        shown["data"] = len(base64.b64decode(event["data"]))
    return shown
