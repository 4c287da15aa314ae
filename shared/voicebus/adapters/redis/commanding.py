"""Commands to sessions wherever they are held: written to the owner's inbox, answered to the asker's.

A command is carried out at most once, and never after its deadline: whoever was told that it was not answered in time
may still find it done, and nobody finds it done later than that.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from ulid_transform import ulid_now

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.heartbeat import lives_for_ms
from voicebus.adapters.redis.outbox import Outbox
from voicebus.contracts.commands import (
    SESSION_ANSWER,
    SESSION_COMMAND,
    CommandFailure,
    SessionAnswer,
    SessionCommand,
)
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import LOCAL_TENANT, DecidedBy
from voicebus.contracts.streams import INBOX_TTL_S, Keys
from voicebus.errors import CommandRefusedError, ContractError
from voicebus.ports import Clock, SessionRef
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

ANSWER_TIMEOUT_S: Final = 2.0
"""How long an owner may take to answer."""


class RedisCommands:
    """Sends commands from the gateway `gateway`, and answers those that reached it. Its inbox routes both here."""

    def __init__(self, bus: RedisConnection, outbox: Outbox, clock: Clock, keys: Keys, gateway: str) -> None:
        self._bus = bus
        self._outbox = outbox
        self._clock = clock
        self._keys = keys
        self._reply_to = keys.inbox(gateway)
        # Bounded by the requests in hand, each of which waits no longer than its time-out.
        self._waiting: dict[str, asyncio.Future[CommandFailure | None]] = {}

    async def send(
        self,
        session: str,
        command: str,
        arguments: Mapping[str, Any],
        *,
        tenant: str,
        by: DecidedBy | None = None,
        command_id: str | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> str:
        """Have the owner of the tenant's `session` carry out a command of the native face; returns the command's id.

        `by` is who wants it, for the record. A `command_id` that was given before is the same command again, which the
        session carries out once.

        Raises:
            CommandRefusedError: `unknown_session` (also for another tenant's), `session_ended`, `no_answer` within
                `timeout_s`, or the code that the owner refuses with.
            BusError: Redis cannot be reached.
        """
        owner, epoch = await self._owner(tenant, session)
        command_id = command_id or ulid_now()
        message = SessionCommand(command_id=command_id, command=command, reply_to=self._reply_to, by=by, **arguments)
        deadline = self._clock.at_ms() + round(timeout_s * 1000)
        entry = new_entry(SessionRef(session, epoch), SESSION_COMMAND, message, self._clock, deadline=deadline)
        answer = self._waiting[command_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                self._outbox.send(self._keys.inbox(owner), entry, ttl_s=INBOX_TTL_S)
                failure = await answer
        except TimeoutError as error:
            why = f"the gateway that holds the session did not answer within {timeout_s:g} s"
            if not await lives_for_ms(self._bus, self._keys.gateway(owner)):
                why = "the gateway that held the session is gone; the session goes on when its client comes back"
            raise CommandRefusedError("no_answer", why) from error
        finally:
            del self._waiting[command_id]
        if failure is not None:
            if failure.code == "unknown_session":
                await self._owner(tenant, session)  # that it has ended meanwhile is the better answer
            raise CommandRefusedError(failure.code, failure.message)
        return command_id

    async def _owner(self, tenant: str, session: str) -> tuple[str, int]:
        state = self._keys.session_state(session)
        status, owner, epoch, whose = await self._bus.call("HMGET", state, "status", "owner", "epoch", "tenant")
        if not owner or (whose or LOCAL_TENANT) != tenant:
            raise CommandRefusedError("unknown_session", f"there is no session {session[:64]!r}")
        if status == "ended":
            raise CommandRefusedError("session_ended", f"session {session[:64]!r} has ended")
        return str(owner), int(epoch or 0)

    # --- the inbox's side ---------------------------------------------------------------------------

    def answered(self, entry: Entry) -> None:
        """An answer has come; one that nobody waits for any more is dropped.

        Raises:
            ContractError: it is malformed.
        """
        answer = SessionAnswer.of(entry)
        waiting = self._waiting.get(answer.command_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.error)

    def answer(self, entry: Entry, refused: CommandRefusedError | None) -> None:
        """Tell whoever sent the command `entry` what came of it; nothing where nobody is to be told."""
        try:
            command = SessionCommand.of(entry)
            if command.reply_to is None:
                return
            self._keys.require_reply_to(command.reply_to)
        except ContractError as error:
            log.warning("command not answered", session=entry.session, error=str(error))
            return
        failure = None if refused is None else CommandFailure(code=refused.code, message=str(refused))
        message = SessionAnswer(command_id=command.command_id, error=failure)
        reply = new_entry(
            SessionRef(entry.session, entry.epoch, entry.traceparent), SESSION_ANSWER, message, self._clock,
            deadline=entry.deadline,
        )  # fmt: skip
        self._outbox.send(command.reply_to, reply, ttl_s=INBOX_TTL_S)
