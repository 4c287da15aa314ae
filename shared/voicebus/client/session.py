"""A session on a gateway, with the surface of a session in one's own process; `connect` makes it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self

from voicebus.agents import checking
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeUserInput
from voicebus.agents.error_details import RealtimeErrorDetails
from voicebus.agents.events import RealtimeError, RealtimeSessionEvent
from voicebus.agents.items import RealtimeItem
from voicebus.agents.local.broadcast import Broadcast
from voicebus.agents.models.playback import RealtimePlaybackTracker, format_name
from voicebus.agents.saying import audio_samples, check_decision, image_content, message_content
from voicebus.client.creating import create_session
from voicebus.client.dialling import CONNECT_TIMEOUT_S
from voicebus.client.line import GREETINGS
from voicebus.client.link import HANG_UP_S, NativeLink
from voicebus.client.showing import Showing, info
from voicebus.errors import ModelLinkError, NotConnectedError, RemoteError, UserError

_CLOSING_S: Final = HANG_UP_S + 2
# What an event keeps alive beside its samples or its text, about.
_EVENT_BYTES: Final = 500


class GatewaySession:
    """A conversation with an agent of a gateway; made by `connect`. Enter it, speak, iterate over its events, leave it.

    It has what a `RealtimeSession` has, but for what only the agent's own process can do. A connection that is lost is
    opened again: an `error` event tells of it (`connection_lost`, `connection_resumed`), the events that were missed
    come, and what was sent meanwhile is carried out, once. One that observes shows the events and commands nothing.
    """

    def __init__(
        self,
        link: NativeLink,
        *,
        wanted: Mapping[str, Any],
        headers: Mapping[str, str],
        url: str,
        tls: ssl.SSLContext | None,
        playback_tracker: RealtimePlaybackTracker | None,
    ) -> None:
        self._link = link
        self._wanted = wanted
        self._headers = headers
        self._url = url
        self._tls = tls
        self._tracker = playback_tracker
        self._showing = Showing(info())
        self._broadcast = Broadcast(dropped=self._dropped)
        self._entered = False
        self._reader: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._greeted = asyncio.Event()
        # Of commands whose answer somebody waits for.
        self._answers: dict[str, asyncio.Future[None]] = {}
        self._positions: dict[tuple[str, int], float] = {}
        self._moved = asyncio.Event()
        self._muted = False
        self._closed = False
        self._refusal = ""
        self.end_reason: str | None = None
        """Why the session ended (`ended`, `hangup`, `model_lost`, …); None while it has not."""

    # --- what there is to know ------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's id; "" before it was entered."""
        return self._link.session

    @property
    def token(self) -> str:
        """What enters this session again, from anywhere: a secret. "" before it was entered."""
        return self._link.token

    @property
    def seq(self) -> int:
        """The last recorded event that came. Who has handled every event up to an event's own `seq` may go on from
        there, in another process as well: `connect(url, session=id, token=token, seq=event.seq)`.
        """
        return self._link.seq

    @property
    def current_agent(self) -> RealtimeAgent[Any]:
        """The agent in charge: its name, since the agent itself is the gateway's."""
        return self._showing.current

    @property
    def history(self) -> list[RealtimeItem]:
        """The conversation's items, as they are now."""
        return self._showing.items

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._closed

    @property
    def muted(self) -> bool:
        """Whether audio that is sent is dropped."""
        return self._muted

    # --- entering and leaving -------------------------------------------------------------------------

    async def enter(self) -> Self:
        """Connect, and return once the session has begun.

        Raises:
            UserError: the session was entered before, or context and history are no JSON.
            RemoteError: no gateway answers, or it refused: no such agent, no credential, no free slot.
        """
        if self._entered:
            raise UserError("this session was entered before; make another one with connect()")
        self._entered = True
        if self._wanted:
            made = await create_session(self._url, self._wanted, headers=self._headers, tls=self._tls)
            self._link.enters(*made)
        await self._link.open()
        self._reader = asyncio.create_task(self._read(), name="gateway-session")
        greeted = asyncio.create_task(self._greeted.wait(), name="gateway-greeting")
        try:
            await asyncio.wait({greeted, self._reader}, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:  # also where it is cancelled: what was opened is closed
            await self.close()
            raise
        finally:
            greeted.cancel()
        if not self._greeted.is_set():
            why = self._refusal or f"it said nothing within {CONNECT_TIMEOUT_S:g} s"
            await self.close()
            raise RemoteError(f"the gateway at {self._link.where} begins no session: {why}")
        if self._tracker is not None:
            self._tracker.bind(self.report_playback)
        self._reporter = asyncio.create_task(self._report(), name="gateway-playback")
        return self

    async def __aenter__(self) -> Self:
        return await self.enter()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the conversation, or leave it where it is only observed; loops over events end. May be called often."""
        self._entered = self._closed = True
        if self._tracker is not None:
            self._tracker.end()
            self._tracker = None
        if self._reporter is not None:
            self._reporter.cancel()
        reader = self._reader
        if reader is not None and not reader.done() and not self._link.observes:
            with contextlib.suppress(RemoteError, TimeoutError):  # it is over already, or is not to be reached
                async with asyncio.timeout(_CLOSING_S):
                    await self._link.hang_up()
                    await asyncio.wait({reader})
        await self._link.close()
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        self._broadcast.end()

    def __aiter__(self) -> AsyncIterator[RealtimeSessionEvent]:
        """Events from where the last loop stopped. Ends with the session, after the events that came before.

        Raises:
            ModelLinkError: the gateway has lost the model.
            RemoteError: the gateway was lost, and could not be reached again in time; or somebody else took over.
        """
        return aiter(self._broadcast)

    # --- speaking -------------------------------------------------------------------------------------

    async def send_message(self, message: RealtimeUserInput) -> None:
        """Say something for the user, text or a message of texts and images, and have it answered.

        Raises:
            UserError: the message is none.
            NotConnectedError: the session is not open.
            RemoteError: the session is over.
        """
        await self._command("send_message", content=message_content(message))

    async def add_image(self, image: str) -> None:
        """Show an image, a `data:` or `https:` address, and have it answered.

        Raises:
            UserError, RemoteError: as `send_message`.
        """
        await self._command("send_message", content=image_content(image))

    async def send_audio(self, audio: bytes, *, commit: bool = False) -> None:
        """Send samples in the session's input format; `commit` ends a turn where the model does not detect that itself.

        While the connection is being opened again the newest 5 s are kept.

        Raises:
            UserError: `audio` is no bytes.
            NotConnectedError: the session is not open.
            RemoteError: the session is over.
        """
        samples = audio_samples(audio)
        checking.flag("send_audio", "commit", commit)
        self._open()
        if samples and not self._muted:
            await self._link.send_audio(samples)
        if commit:
            await self._command("commit")

    def mute(self, muted: bool = True) -> None:
        """Drop audio that is sent from now on, or, with False, send it again."""
        checking.flag("mute", "muted", muted)
        self._muted = muted

    async def interrupt(self) -> None:
        """Stop what the agent is saying; what was not heard of it is cut off. Nothing where the session is not open.

        Raises:
            UserError: this session is only observed.
            RemoteError: the session is over.
        """
        if self._reader is not None and not self._closed:
            await self._command("interrupt")

    def report_playback(self, item_id: str, content_index: int, played_ms: float) -> None:
        """Tell how much of a part's audio was heard, so that an interruption cuts off exactly the rest.

        Give a `RealtimePlaybackTracker` to `connect` to have it told by itself.

        Raises:
            UserError: an argument has the wrong type.
        """
        checking.text("report_playback", "item_id", item_id, empty=False)
        checking.whole("report_playback", "content_index", content_index)
        checking.number("report_playback", "played_ms", played_ms)
        if self._link.observes:
            raise UserError("this session is only observed; what its own client plays is that one's to report")
        self._positions[item_id, content_index] = played_ms
        self._moved.set()

    async def record(self, consent: bool = True) -> None:
        """Whether the caller agrees to be recorded from now on.

        Raises:
            UserError, RemoteError: as `send_message`.
        """
        checking.flag("record", "consent", consent)
        await self._command("record", consent=consent)

    # --- steering -------------------------------------------------------------------------------------

    async def update_agent(self, agent: RealtimeAgent[Any] | str) -> None:
        """Put another agent of the gateway in charge, by its name; returns once it is.

        Raises:
            UserError: there is none of that name for this client, or it cannot take over.
            NotConnectedError: the session is not open.
            RemoteError: the session is over.
        """
        if not isinstance(agent, str | RealtimeAgent) or not agent:
            checking.refuse("update_agent", "agent", "an agent of the gateway, or its name", agent)
        name = agent if isinstance(agent, str) else agent.name
        self._open()
        command = self._link.new_id()
        answer = self._answers[command] = asyncio.get_running_loop().create_future()
        try:
            await self._link.command("update_agent", command, agent=name)
            await answer
        finally:
            del self._answers[command]
            answer.cancel()
        self._showing.agent = name

    async def approve_tool_call(self, call_id: str, *, always: bool = False) -> None:
        """Let a call run that waits for approval; `always`: and every further one of its tool, unasked.

        Raises:
            UserError, RemoteError: as `send_message`.
        """
        check_decision("approve_tool_call", call_id, always)
        await self._command("approve", call_id=call_id, always=always)

    async def reject_tool_call(
        self, call_id: str, *, always: bool = False, rejection_message: str | None = None
    ) -> None:
        """Refuse a call that waits for approval; `rejection_message` is what the model is told of it.

        Raises:
            UserError, RemoteError: as `send_message`.
        """
        check_decision("reject_tool_call", call_id, always, rejection_message)
        await self._command("reject", call_id=call_id, always=always, message=rejection_message)

    # --- inside ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._reader is None:
            raise NotConnectedError("this session is not open: use `async with session:`, or `await session.enter()`")
        if self._closed:
            raise NotConnectedError("this session was closed; make another one with connect()")
        if self._link.observes:
            raise UserError("this session is only observed; connect without observe to command it")

    async def _command(self, command: str, **fields: Any) -> None:
        self._open()
        await self._link.command(command, self._link.new_id(), **fields)

    async def _read(self) -> None:
        failure: Exception | None = None
        try:
            async for frame in self._link:
                if isinstance(frame, bytes):
                    self._broadcast.put(self._showing.samples(frame), len(frame) + _EVENT_BYTES)
                else:
                    self._take(frame)
            failure = self._failure()
        except Exception as error:  # noqa: BLE001 - whatever it is, loops over events are to see it
            failure = error
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(RemoteError("the session ended before it answered"))
            self._broadcast.end(failure)

    def _take(self, event: dict[str, Any]) -> None:
        kind, command = event["type"], event.get("id")
        if kind in ("ack", "error") and command in self._answers:
            self._answered(self._answers[command], event)
            return
        made = self._showing.show(event)
        if self._tracker is not None and kind in GREETINGS and "audio" in event:  # those that are recorded have none
            self._tracker.set_audio_format(format_name(event["audio"]["output"]))
        elif self._tracker is not None and kind == "audio_interrupted":
            self._tracker.start_over()
        elif kind == "history_updated":
            self._greeted.set()
        elif kind == "session_ended":
            self.end_reason = str(event.get("reason"))
        elif kind == "error":
            self._refusal = str(event.get("message") or event.get("code"))
        if made is not None:
            self._broadcast.put(made, _EVENT_BYTES)

    @staticmethod
    def _answered(answer: asyncio.Future[None], event: Mapping[str, Any]) -> None:
        if answer.done():
            return
        if event["type"] == "ack":
            answer.set_result(None)
        else:
            answer.set_exception(UserError(str(event.get("message"))))

    def _failure(self) -> Exception | None:
        """What loops over events are to raise at the end."""
        if self.end_reason == "model_lost":
            return ModelLinkError("the gateway has lost the model")
        if self.end_reason is not None or self._closed:
            return None
        why = " ".join(str(part) for part in (self._link.close_code, self._link.close_reason) if part)
        return RemoteError(f"the session with {self._link.where} was lost ({why or 'no reason given'})")

    async def _report(self) -> None:
        """Send positions of playback: of each part the newest one."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            moved, self._positions = self._positions, {}
            for (item_id, content_index), played_ms in moved.items():
                report = {"item_id": item_id, "content_index": content_index, "played_ms": played_ms}
                try:
                    await self._link.send({"type": "playback", **report})
                except RemoteError:
                    return  # the session is over

    def _dropped(self, count: int) -> RealtimeSessionEvent:
        details = RealtimeErrorDetails(f"{count} events were dropped", code="events_dropped", count=count)
        return RealtimeError(details, self._showing.info)
