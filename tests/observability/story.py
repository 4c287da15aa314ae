"""What happens in the cluster whose metrics are looked at: conversations, and every fault that a metric tells of."""

import asyncio
import json
import signal
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import redis.asyncio as aioredis

from observability.watching import WITHIN_S, Watch
from support.callers import Caller, admitted, calling, ends, has_lines
from support.cluster import ClusterUnderTest, Service
from support.cutting_proxy import CuttingProxy, cutting_proxy
from support.prometheus import PrometheusServer
from support.recorded import said, started
from support.servers import RedisServer
from support.waiting import wait_until
from voicebus.adapters.recordings.storage import WHOLE, folder
from voicebus.adapters.redis.scripts import TAKE
from voicebus.contracts.streams import Keys
from voicebus.errors import VoicebusError
from voicebus_services.access.principal import LOCAL


def call(tool: str, **arguments: Any) -> str:
    return f"[[call: {tool} {json.dumps(arguments)}]]"


@dataclass
class Story:
    """The cluster, what stands between it and the model, between its first gateway and Redis, and who watches."""

    cluster: ClusterUnderTest
    model: CuttingProxy
    bus: CuttingProxy
    prometheus: PrometheusServer
    watch: Watch
    redis: RedisServer
    keys: Keys
    folder: Path
    panels: Mapping[str, str]
    callers: AsyncExitStack

    # --- services ---

    async def start(self, command: str, **settings: Any) -> Service:
        service = await self.cluster.start(command, **settings)
        self.scrape()
        return service

    def scrape(self) -> None:
        running = [service for services in self.cluster.services.values() for service in services]
        self.prometheus.scrape(running)
        self.watch.lapse.scrape(running)

    async def kill(self, service: Service) -> None:
        await self.cluster.kill(service)
        self.scrape()

    async def fires(self, *alerts: str, again: Callable[[], Awaitable[object]] | None = None) -> None:
        """Wait until the alerts fire in time-lapse; `again` does meanwhile what they are for."""

        async def fired() -> bool:
            if again is not None and not self.watch.has_fired(*alerts):
                await again()
            return self.watch.has_fired(*alerts)

        try:
            await wait_until(fired, description="alerts to fire", timeout=WITHIN_S, interval=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(set(alerts) - self.watch.fired)}") from error

    async def shown(self, panel: str) -> None:
        """Wait until a panel shows more than the 0 that its counters begin with."""
        await self.watch.until(f"({self.panels[panel]}) > 0")

    async def play(self) -> list[BaseException]:
        """Everything, in an order in which one fault leaves what the next one needs; what went otherwise than told."""
        first, other = self.cluster.services["gateway"]
        guesses = self.wrong_credentials(self.cluster.services["transcript-archiver"][1])
        beginning = await asyncio.gather(
            self.conversation(), self.held_speech(other), guesses, self.broken_entries(), self.large_message(other),
            return_exceptions=True,
        )  # fmt: skip
        wrong = [one for one in beginning if one is not None]
        for step in (
            self.failing(), self.slow_answers(other), self.throttled(self.cluster.services["guardrail-worker"][0]),
            self.full_gateways(other), self.dead_tool_worker(), self.dead_gateway(other, first), self.dead_archiver(),
            self.dead_guardrail_worker(), self.stopping_tool_worker(), self.lost_model(), self.disrupted_redis(),
            self.watch.settled(), self.last_gateway(),
        ):  # fmt: skip
            try:
                await step
            except (AssertionError, VoicebusError) as error:
                for gateway in self.cluster.services["gateway"]:
                    error.add_note("\n".join(gateway.child.last_lines))
                wrong.append(error)
        return wrong

    # --- what happens ---

    async def conversation(self) -> None:
        """Turns, tools and guardrails of every kind."""
        async with calling(self.cluster.gateway.url, agent="first") as caller:
            # What its recording is to be put together as is a folder already.
            whole = Path(folder(LOCAL.tenant, caller.session)) / WHOLE
            (self.folder / "recordings" / whole).mkdir(parents=True)
            await caller.says("I am anna@example.org [[say: hello anna]]")
            await caller.hears("hello anna")
            await caller.says(f"quick {call('quick', word='one')}")
            await caller.hears("quick one")
            await caller.types("slow [[delay: 2000ms]] [[say: at last]]")
            await caller.hears("at last")
            await caller.types(f"quick {call('quick', word='two')}")
            await caller.hears("quick two")
            await caller.types(f"block {call('blocks', seconds=1.5)}")
            for number in range(3, 8):
                await ends(caller, "tool_end", number)
                await caller.types(f"fail {call('fails', word=str(number))}")
            for word in ("forbidden", "unclear", "forbidden"):
                await self.stopped(caller, word)
            await caller.types("break [[fault: failed server_error]]")
            await ends(caller, "error", 1)
            await caller.hangs_up()

    async def stopped(self, caller: Caller, word: str) -> None:
        """Have a word said until a guardrail stops it: on a busy machine a verdict may be later than the second that
        this cluster gives it, and then what nobody judged passes, as it is told to."""
        trips = len(caller.of("guardrail_tripped"))

        async def tripped() -> bool:
            await caller.types(f"go [[say: this is {word}]]")
            with suppress(AssertionError):
                await ends(caller, "guardrail_tripped", trips + 1, timeout=5)
            return len(caller.of("guardrail_tripped")) > trips

        await wait_until(tripped, description=f"{word!r} to be stopped", timeout=WITHIN_S)

    async def failing(self) -> None:
        """A tool and a model fail again and again."""
        async with calling(self.cluster.gateway.url, agent="first") as caller:

            async def fail() -> None:
                turns = len(caller.of("turn_ended"))
                await caller.types(f"fail {call('fails', word='again')}")
                await caller.types("break [[fault: failed server_error]]")
                await ends(caller, "turn_ended", turns + 2)

            await self.fires("VoicebusToolFailing", "VoicebusModelErrors", again=fail)
            await caller.hangs_up()

    async def slow_answers(self, other: Service) -> None:
        """As many callers as there is room for wait for every answer."""
        async with AsyncExitStack() as stack:
            gateways = [self.cluster.gateway.url] * 4 + [other.url] * 3
            callers = [await stack.enter_async_context(calling(url, agent="first")) for url in gateways]

            async def ask() -> None:
                said = [len(each.lines()) for each in callers]
                for each in callers:
                    await each.types("slow [[delay: 2000ms]] [[say: at last]]")
                for each, before in zip(callers, said, strict=True):
                    await each.until(partial(has_lines, before + 2), "a slow answer")

            await self.fires("VoicebusAnswersSlow", "VoicebusAnswersFastBurn", "VoicebusAnswersSlowBurn", again=ask)

            async def wait_in_vain() -> None:
                for each in callers:
                    await each.types("quiet [[fault: silence]]")
                await asyncio.sleep(3)

            await self.fires("VoicebusDeadAir", again=wait_in_vain)
            for each in callers:
                await each.hangs_up()

    async def throttled(self, service: Service) -> None:
        """A process gets a ninth of its time, as one does that is over its limit."""

        async def stop_and_go() -> None:
            service.signal(signal.SIGSTOP)
            await asyncio.sleep(0.8)
            service.signal(signal.SIGCONT)
            await asyncio.sleep(0.1)

        try:
            await self.fires("VoicebusEventLoopLag", again=stop_and_go)
        finally:
            service.signal(signal.SIGCONT)

    async def held_speech(self, gateway: Service) -> None:
        """Speech that is held for a window: its words are late for a voice that has read digits as fast as letters."""
        async with calling(gateway.url, agent="held") as caller:
            for number, said in enumerate(("12345678901234567890", "all of this is held back for a while")):
                await caller.says(f"go [[say: {said}, number {number}]]")
                await caller.hears(f"number {number}")
            await caller.hangs_up()

    async def wrong_credentials(self, archiver: Service) -> None:
        """A key that nobody has, until its sender is not looked at any more."""

        def ask() -> int:
            request = urllib.request.Request(
                f"{archiver.url}/v1/transcripts", headers={"Authorization": "Bearer wrong"}
            )
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert await asyncio.to_thread(ask) == 401
        await wait_until(
            lambda: asyncio.to_thread(_equals(ask, 429)), description="429", timeout=WITHIN_S, interval=0.1
        )

    async def broken_entries(self) -> None:
        """Entries that are none, and events of a session of which one is missing."""
        async with aioredis.Redis.from_url(self.redis.url) as bus:
            await bus.hset(self.keys.config, "group:never-there", "1")
            await bus.xadd(self.keys.tools("default"), {"v": "1", "type": "nonsense"})
            await bus.xadd(self.keys.events(0), {"v": "1", "type": "nonsense"})
            session, now = "made-up", await self._now(bus)
            for entry in (
                started(session, at=now), said(session, 4, "user", "after the gap", start=100)
            ):  # fmt: skip
                fields = {**entry.fields(), "at": str(now)}
                await bus.xadd(self.keys.events(self.keys.event_shard(session)), fields)  # type: ignore[arg-type]

    async def full_gateways(self, other: Service) -> None:
        """As many callers as there are slots, and some more."""
        gateways = (self.cluster.gateway.url, other.url)
        async with AsyncExitStack() as stack:
            callers: list[Caller] = []
            for url in gateways:
                while (caller := await admitted(stack, url)) is not None:
                    callers.append(caller)
            await self.fires("VoicebusNoSlots", "VoicebusCapacityShort")
            assert [await admitted(stack, url) for url in gateways] == [None, None]
            for each in callers[1:]:
                await each.hangs_up()

            async def ask() -> None:
                """One gateway is full again and again, and the other one has room."""
                full = [one for one in [await admitted(stack, gateways[0]) for _ in range(6)] if one is not None]
                for each in full:
                    await each.hangs_up()

            await self.fires(
                "VoicebusRejectedWithFreeSlots", "VoicebusAdmissionFastBurn", "VoicebusAdmissionSlowBurn", again=ask
            )
            await callers[0].hangs_up()

    async def dead_gateway(self, doomed: Service, other: Service) -> None:
        """One caller comes back to another gateway, which does not know the next one's agent; the last stays away."""
        way = await self.callers.enter_async_context(cutting_proxy(doomed.port))
        url = f"http://127.0.0.1:{way.port}"
        async with (
            calling(url, agent="first") as caller, calling(url, agent="held") as lost, calling(doomed.url) as gone
        ):  # fmt: skip
            for each in (caller, lost, gone):
                await each.types("[[say: I am here]]")
                await each.hears("I am here")
            way.target = other.port
            # Redis is long at giving the other one this session, and not so long that it is given up (5 s).
            state = self.keys.session_state(caller.session)
            self.bus.slow_word = f"{TAKE.sha}\r\n$1\r\n3\r\n${len(state)}\r\n{state}".encode()
            self.bus.slow_s = 3.2
            try:
                await self.kill(doomed)
                await caller.until(lambda each: each.of("model_reconnected"), "the session to go on")
            finally:
                self.bus.slow_word = b""
            await self.fires("VoicebusSessionsLost", "VoicebusTakeoverSlow")
            turns = len(caller.of("turn_ended"))
            await caller.types("[[say: still here]]")
            await ends(caller, "turn_ended", turns + 1)
            await caller.hangs_up()
        await self.shown("voicebus-moves / Interrupted conversations / interrupted")

    async def dead_tool_worker(self) -> None:
        """It has a call that may run again, and one that must not."""
        (doomed,) = self.cluster.services["tool-worker"]
        caller = await self.callers.enter_async_context(calling(self.cluster.gateway.url))
        files = {name: self.folder / name for name in ("repeats", "once")}
        calls = [call(name, started=str(file), seconds=60) for name, file in files.items()]
        await caller.types(f"go {' '.join(calls)}")
        await wait_until(lambda: all(file.exists() for file in files.values()), description="both", timeout=WITHIN_S)
        await self.start("tool-worker")
        await self.kill(doomed)
        ended = await caller.until(lambda each: each.of("tool_end")[1:] and each.of("tool_end"), "both to end")
        assert {end["outcome"] for end in ended} == {"ok", "unknown"}
        await caller.hangs_up()

    async def stopping_tool_worker(self) -> None:
        """It finishes what it has, and then nobody is there for what comes."""
        (worker,) = self.cluster.services["tool-worker"]
        caller = await self.callers.enter_async_context(calling(self.cluster.gateway.url))
        file = self.folder / "last"
        await caller.types(f"go {call('once', started=str(file), seconds=14)}")
        await wait_until(file.exists, description="the call to begin", timeout=WITHIN_S)
        stopping = asyncio.create_task(self.cluster.stop(worker), name="stop the tool worker")
        try:
            await self.fires("VoicebusDrainStuck", "VoicebusToolCallsStuck")
        finally:
            await stopping
        self.scrape()
        await caller.hears("done once")
        await caller.types(" ".join(call("quick", word=str(number)) for number in range(24)))
        await self.fires("VoicebusStreamBacklog", "VoicebusToolCallsRefused")
        await caller.hangs_up()

    async def dead_guardrail_worker(self) -> None:
        """Checks wait, and one that waits is deleted by hand."""
        (worker,) = self.cluster.services["guardrail-worker"]
        caller = await self.callers.enter_async_context(calling(self.cluster.gateway.url))
        await self.kill(worker)
        for number in range(1, 6):
            await caller.types(f"go [[say: nobody judges {number}]]")
            await ends(caller, "turn_ended", number)
        async with aioredis.Redis.from_url(self.redis.url) as bus:
            for shard in range(self.keys.guardrail_shards):
                stream = self.keys.guardrails(shard)
                if not await bus.exists(stream):
                    continue
                (group,) = await bus.xinfo_groups(stream)
                waiting = await bus.xrange(stream, min=f"({group['last-delivered-id'].decode()}")
                if waiting and len(waiting) > 1:
                    await bus.execute_command("XDEL", stream, waiting[0][0])  # type: ignore[no-untyped-call]
        await self.fires("VoicebusGuardrailCircuitOpen", "VoicebusUnjudgedPassed", "VoicebusStreamLagUnknown")
        await caller.hangs_up()

    async def dead_archiver(self) -> None:
        """It had events in hand, as the database was locked; another one takes them over."""
        doomed = self.cluster.services["transcript-archiver"][0]
        caller = await self.callers.enter_async_context(calling(self.cluster.gateway.url))
        database = await asyncio.to_thread(
            sqlite3.connect, self.folder / "v.db", isolation_level=None, check_same_thread=False
        )
        try:
            await wait_until(lambda: asyncio.to_thread(_locked, database), description="the lock", timeout=WITHIN_S)
            await caller.types("[[say: this is not written yet]]")
            await caller.hears("not written yet")
            async with aioredis.Redis.from_url(self.redis.url) as bus:
                stream = self.keys.events(self.keys.event_shard(caller.session))

                async def in_hand() -> bool:
                    return bool((await bus.xpending(stream, "archiver"))["pending"])

                await wait_until(in_hand, description="events in hand", timeout=WITHIN_S)
                await self.fires("VoicebusStreamStuck")
                await self._fill(bus)
                await self.fires("VoicebusArchiveBehind")
            await self.kill(doomed)
        finally:
            await asyncio.to_thread(database.close)
        await self.fires("VoicebusArchiveSlow")
        await caller.hangs_up()

    async def _fill(self, bus: "aioredis.Redis") -> None:
        """More events than the alert lets wait, of sessions that are long and silent."""
        now = await self._now(bus)
        for number in range(52):
            session = f"long-{number}"
            stream = self.keys.events(self.keys.event_shard(session))
            events = [started(session, at=now), *(said(session, seq, "user", "x", start=0) for seq in range(2, 1002))]
            async with bus.pipeline(transaction=False) as pipe:
                for event in events:
                    fields: dict[Any, Any] = {**event.fields(), "at": str(now)}
                    pipe.xadd(stream, fields)
                await pipe.execute()

    async def lost_model(self) -> None:
        """The model's link breaks, and then the model cannot be reached at all."""
        async with AsyncExitStack() as stack:
            callers = [await stack.enter_async_context(calling(self.cluster.gateway.url)) for _ in range(2)]
            self.model.cut()
            for each in callers:
                await each.until(lambda one: one.of("model_reconnected"), "another link")

            async def cut() -> None:
                self.model.cut()
                await asyncio.sleep(0.5)

            await self.fires("VoicebusModelReconnects", again=cut)
            self.model.refuses = True
            self.model.cut()
            await self.fires("VoicebusModelCircuitOpen")
        self.model.refuses = False

        async def answers() -> bool:
            async with calling(self.cluster.gateway.url) as caller:
                await caller.types("[[say: I am back]]")
                with suppress(AssertionError):
                    await caller.hears("I am back", timeout=5)
                return bool(caller.lines()[1:])

        await wait_until(answers, description="the model to be dialled again", timeout=WITHIN_S, interval=1)

    async def large_message(self, gateway: Service) -> None:
        """A client sends more at once than it may."""
        async with calling(gateway.url) as caller:
            await caller.types("a" * 100_000)
            await self.shown("voicebus-sessions / Limits reached / {{limit}}")

    async def disrupted_redis(self) -> None:
        """It is started anew with what is on its disk, and then connections break again and again."""
        await asyncio.to_thread(self.redis.restart)
        await self.shown("voicebus-overview / Redis / {{service}} new master")
        async with aioredis.Redis.from_url(self.redis.url) as bus:

            async def break_off() -> None:
                await bus.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(1)

            await self.fires("VoicebusRedisDisrupted", again=break_off)

    async def last_gateway(self) -> None:
        """It stops while somebody speaks, and then there is none."""
        gateway = self.cluster.gateway
        caller = await self.callers.enter_async_context(calling(gateway.url))
        await caller.types("[[delay: 5000ms]] [[say: the last words]]")
        stopping = asyncio.create_task(self.cluster.stop(gateway), name="stop the last gateway")
        try:
            await self.shown("voicebus-moves / Left at stopping gateways / {{instance}}")
        finally:
            await stopping
        self.scrape()
        await self.fires("VoicebusGatewaysAbsent")

    async def _now(self, bus: "aioredis.Redis") -> int:
        seconds, microseconds = await bus.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


def _equals(ask: Callable[[], int], wanted: int) -> Callable[[], bool]:
    return lambda: ask() == wanted


def _locked(database: sqlite3.Connection) -> bool:
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True
