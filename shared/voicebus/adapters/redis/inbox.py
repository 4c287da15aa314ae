"""A gateway's inbox: one stream for all its sessions, so that no reply is lost by a dropped connection, as it would be
with publish/subscribe.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from msgspec.structs import replace

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.commanding import RedisCommands
from voicebus.adapters.redis.config import keep_pinned
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.adapters.redis.references import refers, whole
from voicebus.adapters.redis.tail import StreamTail
from voicebus.contracts.commands import RESEND, SESSION_ANSWER, SESSION_COMMAND, SESSION_TAKEN, YIELD, Resend
from voicebus.contracts.envelope import Entry
from voicebus.contracts.guardrails import GUARDRAIL_VERDICT
from voicebus.contracts.streams import INBOX_QUEUE, INBOX_TTL_S, Keys
from voicebus.contracts.tools import TOOL_RESULT, TOOL_STARTED, ToolResult
from voicebus.errors import BusError, CommandRefusedError, ContractError
from voicebus.ports import Deliver
from voicebus.runtime.consumer import until_reached
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Writers send the same again, under its message id, after a lost connection: so many messages are remembered.
_REMEMBERED: Final = 10_000
# Entries that wait for Redis at once; then the next one of them waits, and all behind it.
_MAX_APART: Final = 64
# What is of use to a session's next owner.
_LATE: Final = frozenset({TOOL_STARTED, TOOL_RESULT, GUARDRAIL_VERDICT})


class RedisInbox:
    """Implements `voicebus.ports.Inbox`. Run `run` as a task of the gateway.

    `commands` gives and gets the answers to commands; `on_taken` hears that another gateway has taken a session over,
    `on_yield` that one wants to (a future is done once it may); `on_resend(session, first, last)` that the archive
    misses events; `on_verdict` of each answer to a check. `on_reachable` hears whether the last read reached Redis, for
    readiness; `on_refused` why it is read no more until somebody mends that, None once it is read again; `on_result` of
    each result of a call.
    """

    def __init__(
        self,
        bus: RedisConnection,
        keys: Keys,
        gateway: str,
        *,
        service: str = "gateway",
        commands: RedisCommands | None = None,
        on_taken: Callable[[Entry], None] | None = None,
        on_resend: Callable[[str, int, int], Awaitable[int]] | None = None,
        on_verdict: Callable[[], None] | None = None,
        on_yield: Callable[[Entry], asyncio.Future[None]] | None = None,
        on_reachable: Callable[[bool], None] | None = None,
        on_refused: Callable[[str | None], None] | None = None,
        on_result: Callable[[Entry], None] | None = None,
    ) -> None:
        self._on_result = on_result
        self.stream: str = keys.inbox(gateway)
        self._dead = keys.dead(INBOX_QUEUE)
        self._bus = bus
        self._keys = keys
        self._service = service
        self._commands = commands
        self._on_taken = on_taken
        self._on_resend = on_resend
        self._on_verdict = on_verdict
        self._on_yield = on_yield
        self._tail = StreamTail(
            bus, self.stream, self._route, ttl_s=INBOX_TTL_S, service=service, on_reachable=on_reachable,
            on_refused=on_refused,
        )  # fmt: skip
        self._subscribers: dict[str, Deliver] = {}
        self._seen: OrderedDict[int, None] = OrderedDict()
        # Entries that wait for Redis, and of each call the last one: what comes of that call waits behind it.
        self._apart: set[asyncio.Task[None]] = set()
        self._lines: dict[tuple[str, str], asyncio.Task[None]] = {}

    def subscribe(self, session: str, deliver: Deliver) -> None:
        """Have `deliver` called, on the event loop, with every entry for this session."""
        self._subscribers[session] = deliver

    def unsubscribe(self, session: str) -> None:
        self._subscribers.pop(session, None)

    def rewind(self) -> None:
        """Another server is the master: read the last minute again; what is known is dropped."""
        self._tail.rewind()

    def bring(self, entry: Entry) -> None:
        """Bring an entry that this gateway made itself to its session, as if it had come through the stream."""
        deliver = self._subscribers.get(entry.session)
        if deliver is not None:
            deliver(entry)

    async def late(self, fields: Mapping[str, str]) -> None:
        """Bring what a worker has answered to the inbox of a session's former owner. Commands are not carried out
        twice, so none is brought.

        Raises:
            BusError: Redis cannot be reached.
        """
        try:
            entry = Entry.parse(fields)
        except ContractError as error:
            log.warning("a late answer cannot be read", error=str(error))
            return
        try:
            deliver = self._subscribers.get(entry.session)
            message = _message(fields)
            if entry.type not in _LATE or deliver is None or message in self._seen:
                return
            found = await whole(self._bus, self._keys, entry)
            if self._is_new(message):  # counted now, as it is brought again where Redis was away
                deliver(found)
        except ContractError as error:
            log.warning("a late answer cannot be read", error=str(error))
            self._end_call(entry, error)
        except BusError:
            raise
        except Exception:  # one session's failure must not stop the others' replies
            log.exception("late answer not handled")

    async def run(self) -> None:
        """Read and route entries until cancelled, and meanwhile keep the configuration that its key depends on."""
        pinning = asyncio.create_task(keep_pinned(self._bus, self._keys), name="configuration")
        try:
            await self._tail.run()
        finally:
            tasks = [pinning, *self._apart]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _route(self, entry_id: str, fields: dict[str, str]) -> None:
        try:
            entry = Entry.parse(fields)
        except ContractError as error:
            await self._dead_letter(entry_id, fields, error)
            return
        if not self._is_new(_message(fields)):
            return
        line = _line(entry)
        behind = None if line is None else self._lines.get(line)
        if behind is None and not self._asks_redis(entry):
            await self._bring(entry_id, fields, entry)
            return
        while len(self._apart) >= _MAX_APART:
            await asyncio.wait(self._apart, return_when=asyncio.FIRST_COMPLETED)
        bringing = self._bring_behind(behind, entry_id, fields, entry)
        task = asyncio.create_task(bringing, name=f"inbox entry {entry_id}")
        self._apart.add(task)
        if line is not None:
            self._lines[line] = task
        task.add_done_callback(lambda done: self._brought(done, line))

    def _asks_redis(self, entry: Entry) -> bool:
        """Whether there is more to read or to write before the entry can be brought: others do not wait for that."""
        return _is_resend(entry) or (refers(entry) and entry.session in self._subscribers)

    def _brought(self, task: asyncio.Task[None], line: tuple[str, str] | None) -> None:
        self._apart.discard(task)
        if line is not None and self._lines.get(line) is task:
            del self._lines[line]

    async def _bring_behind(
        self, behind: asyncio.Task[None] | None, entry_id: str, fields: dict[str, str], entry: Entry
    ) -> None:
        if behind is not None:
            await asyncio.wait([behind])
        await self._bring(entry_id, fields, entry)

    async def _bring(self, entry_id: str, fields: dict[str, str], entry: Entry) -> None:
        refused: CommandRefusedError | None = None
        later = None
        try:
            if entry.session in self._subscribers:
                entry = await until_reached(whole, self._bus, self._keys, entry)
            if not await self._resent(entry):
                later = self._deliver(entry)
        except CommandRefusedError as error:
            refused = error
        except ContractError as error:
            refused = CommandRefusedError("invalid_value", str(error))
            self._end_call(entry, error)
            await self._dead_letter(entry_id, fields, error)
        except Exception as error:  # one session's failure must not stop the others' replies
            log.exception("inbox entry not handled", session=entry.session, type=entry.type)
            refused = CommandRefusedError("internal_error", f"internal error ({type(error).__name__})")
        if later is None:
            self._answer(entry, refused)
        else:
            later.add_done_callback(lambda done: self._answer(entry, _refusal(done)))

    def _is_new(self, message: int) -> bool:
        if message in self._seen:
            return False
        self._seen[message] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    def _answer(self, entry: Entry, refused: CommandRefusedError | None) -> None:
        if entry.type != SESSION_COMMAND:
            return
        if refused is not None:
            log.info("command refused", session=entry.session, code=refused.code, why=str(refused))
        if self._commands is not None:
            self._commands.answer(entry, refused)

    async def _resent(self, entry: Entry) -> bool:
        """Whether this was the archiver's word, which no session needs to hear."""
        if self._on_resend is None or not _is_resend(entry):
            return False
        wanted = Resend.of(entry)
        count = await until_reached(self._on_resend, entry.session, wanted.first, wanted.last)
        log.info("events sent again", session=entry.session, first=wanted.first, last=wanted.last, sent=count)
        return True

    def _deliver(self, entry: Entry) -> asyncio.Future[None] | None:
        """Bring an entry to whom it is for; what it comes to, where that takes longer.

        Raises:
            CommandRefusedError: a command was not carried out.
            ContractError: the entry is malformed.
        """
        if entry.type == SESSION_ANSWER and self._commands is not None:
            self._commands.answered(entry)
            return None
        if entry.type == GUARDRAIL_VERDICT and self._on_verdict is not None:
            self._on_verdict()
        if entry.type == SESSION_TAKEN:
            if self._on_taken is not None:
                self._on_taken(entry)
            return None
        if entry.type == SESSION_COMMAND and entry.data.get("command") == YIELD and self._on_yield is not None:
            return self._on_yield(entry)
        if entry.type == TOOL_RESULT and self._on_result is not None:
            self._on_result(entry)
        deliver = self._subscribers.get(entry.session)
        if deliver is None:
            log.debug("inbox entry for a session that is not here", session=entry.session, type=entry.type)
            raise CommandRefusedError("unknown_session", f"this gateway does not hold session {entry.session[:64]!r}")
        return deliver(entry)

    def _end_call(self, entry: Entry, error: ContractError) -> None:
        """A result that cannot be read ends its call all the same: no other one will come, and somebody waits."""
        call = entry.data.get("call_id")
        if entry.type == TOOL_RESULT and isinstance(call, str):
            self.bring(replace(entry, data=ToolResult.unreadable(call, str(error)).model_dump(mode="json")))

    async def _dead_letter(self, entry_id: str, fields: dict[str, str], error: ContractError) -> None:
        # Here, as an entry that is routed again is known by then.
        await until_reached(
            lambda: write_dead_letter(
                self._bus, self._dead, fields, stream=self.stream, entry_id=entry_id,
                deliveries=1, reason=error.reason, error=str(error),
            )
        )  # fmt: skip
        metrics.MESSAGES_DEADLETTERED.labels(service=self._service, reason=error.reason).inc()
        log.warning("inbox entry refused", entry=entry_id, reason=error.reason, error=str(error))


def _message(fields: Mapping[str, str]) -> int:
    """The same for what is sent again, and not for another message of the same id: some workers number theirs."""
    return hash((fields.get("id"), fields.get("session"), fields.get("type"), fields.get("data")))


def _line(entry: Entry) -> tuple[str, str] | None:
    """What is about one call is brought in its order."""
    call = entry.data.get("call_id")
    return (entry.session, call) if isinstance(call, str) else None


def _is_resend(entry: Entry) -> bool:
    return entry.type == SESSION_COMMAND and entry.data.get("command") == RESEND


def _refusal(done: asyncio.Future[None]) -> CommandRefusedError | None:
    error = done.exception()
    return error if isinstance(error, CommandRefusedError) else None
