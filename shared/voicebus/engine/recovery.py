"""A model's socket that is lost, and the next one: what is cut off, what is told again, when the conversation goes on.

Pure decisions; dialling is the driver's (`Dial`). What the lost socket has cut off is closed as if the model had done
so, for history, record and client alike. Then exactly what is unanswered is asked for on the next socket:

1. A response that has made calls has ended: its calls are answered, and the model goes on when their outputs are in.
2. One whose items are all finished, or said to their end, has ended: only what closes it is missing.
3. One that was stopped, or that the user is speaking into, has ended, and so has an interlude.
4. Any other is asked for again, as it was asked for; to a client of the OpenAI face it goes on as the same response.
5. A turn that the model would have answered by itself, and had not begun to, is asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from voicebus.contracts.journal import EventType
from voicebus.engine import wire
from voicebus.engine.backoff import MAX_ATTEMPTS, MAX_FIRST_ATTEMPTS, Backoff
from voicebus.engine.config import Recovering, Transport
from voicebus.engine.failures import CIRCUIT_OPEN, DEAD_AIR, MESSAGE_TOO_BIG, SESSION_EXPIRED, is_fatal
from voicebus.engine.inputs import LinkLost
from voicebus.engine.outputs import Dial, DropLink, ReleaseAudio
from voicebus.engine.oversized import leave_out_largest, refuse_largest
from voicebus.engine.parts import Parts
from voicebus.engine.replaying import ANSWERS, Conversation, Replay
from voicebus.engine.responses import Response
from voicebus.engine.state import RECONNECT_TIMER
from voicebus.engine.uplink import CONFIRMATIONS

Event = Mapping[str, Any]

# A socket that served so long (s), or that completed a response, was good: the next loss is a new one.
_PROVED_S: Final = 10.0
# One that expired may have been short-lived by its server's choice.
_PROVED_EXPIRED_S: Final = 0.5
# So often a model is dialled again whose sockets serve and come to nothing, before the next one is tried.
_FRUITLESS: Final = 2
_ECHOES: Final = frozenset({"conversation.item.added", "conversation.item.created", "conversation.item.done"})
TELLING: Final = _ECHOES | ANSWERS | CONFIRMATIONS | {"response.done", "conversation.item.retrieved"}
"""Events that may tell something of the socket itself, or of what it was told; all others pass by."""


class Cut(Protocol):
    """Ends a response whose rest will never come; `again`: it is asked for once more."""

    def __call__(self, response: Response, status: str, *, again: bool) -> None: ...


class Recovery:
    """Brings a session over from one socket to the next. `cut` ends a response that will not go on, `refuse` gets an
    `error` that the model would have answered something with.
    """

    def __init__(self, parts: Parts, cut: Cut, refuse: Callable[[Event], object]) -> None:
        self._p = parts
        self._cut = cut
        self._refuse = refuse
        self._backoff = Backoff()
        self._conversation = Conversation(parts.history, parts.transcript, parts.out.uplink, parts.out, parts.hide_item)
        self._replay = Replay(parts.out)
        self.address: int = 0
        # Addresses that have refused for good since a socket was last good.
        self._useless: set[int] = set()
        self._live_since: float | None = None
        self._met = False
        self._answered = False
        parts.out.uplink.is_shown = self._is_shown
        parts.out.ids = self._replay.ids
        parts.limits.moves = lambda: self.has_another

    # --- the socket is lost ---------------------------------------------------------------------------

    def lost(self, item: LinkLost, code: str | None, *, spare: bool = False) -> bool:
        """Whether another socket takes over: the `spare` one that is ready, else one that is dialled after a while.

        `code` is the model's last word, if any.
        """
        p = self._p
        if p.config.recovering is Recovering.NEVER or p.config.transport is Transport.EVENTS:
            return False
        if p.config.recovering is Recovering.ATTACH and code == SESSION_EXPIRED:
            return False
        was_live = self._live_since is not None
        self._judge(code)
        before = self.address
        delay = 0.0 if spare else self._next(item, code, was_live=was_live)
        if delay is None:
            return False
        if p.out.uplink.open:  # also while it is configured: what was said to it then waits for the next one
            if item.close_code == MESSAGE_TOO_BIG:
                refuse_largest(p, self._refuse)
            self.break_off()
        elif item.close_code == MESSAGE_TOO_BIG:
            leave_out_largest(p, self._conversation, self._replay)
        cause = _cause(item, code, was_live=was_live, moves=self.address != before)
        p.out.observe("model_reconnect", cause=cause)
        p.out.record(EventType.MODEL_RECONNECTING, cause=cause, attempt=max(1, self._backoff.attempt))
        if not spare:
            p.out.add(DropLink())
            p.out.set_timer(RECONNECT_TIMER, delay)
        return True

    def _next(self, item: LinkLost, code: str | None, *, was_live: bool) -> float | None:
        """Choose where to dial: after how long (s); None where each address has refused, or enough was tried.

        What has served is tried first again, unless it did not begin its answer, or a few of its sockets in turn came
        to nothing; where nothing answers, the next one in turn may, after a while. One that refuses is passed over at
        once, and not tried again until a socket was good.
        """
        fatal = item.fatal or is_fatal(code, item.close_code)
        if fatal:
            self._useless.add(self.address)
        refuses = fatal or code == CIRCUIT_OPEN
        count = max(1, len(self._p.config.models))
        serves = was_live and not refuses and code != DEAD_AIR and self._backoff.attempt < _FRUITLESS
        start = 0 if serves else self.address + 1
        turn = ((start + step) % count for step in range(count))
        before, after = self.address, next((address for address in turn if address not in self._useless), None)
        if after is None:
            return None
        self.address = after
        if refuses and after > before:
            return 0.0
        limit = MAX_ATTEMPTS if self._met else MAX_FIRST_ATTEMPTS
        # What the server asks for is no reason to leave another one alone.
        return self._backoff.next(item.jitter, limit=limit, asked=item.retry_after if after == before else 0.0)

    @property
    def has_another(self) -> bool:
        """Whether another model takes over where the one in use refuses to serve."""
        config = self._p.config
        if config.recovering is not Recovering.REPLAY or config.transport is Transport.EVENTS:
            return False
        useless = {self.address} if self._was_good(None) else self._useless | {self.address}
        return not useless.issuperset(range(len(config.models)))

    def _judge(self, code: str | None) -> None:
        """Where the socket that is lost was good, attempts are counted anew."""
        if self._was_good(code):
            self._backoff.restart()
            self._useless.clear()
        self._answered = False

    def _was_good(self, code: str | None) -> bool:
        """Whether the socket in use is a good one, as it ends with `code`."""
        if self._live_since is None:
            return False
        lived = self._p.out.now - self._live_since
        return self._answered or lived >= (_PROVED_EXPIRED_S if code == SESSION_EXPIRED else _PROVED_S)

    def break_off(self) -> None:
        """The socket in use serves no more: end what it has not ended."""
        p = self._p
        self._live_since = None
        p.transcript.disconnected(p.out.uplink.unadded)
        if p.config.recovering is Recovering.ATTACH:
            # The conversation lives on without us: nothing is cut off, and only what names its item is sent again.
            p.out.uplink.lost(sure=True)
            p.turns.connected_now = False
            return
        p.out.uplink.lost()
        # What was held back nobody has heard, and nobody will: the whole answer is asked for again.
        held = [response for response in p.holding.waiting() if not response.muted]
        for response in held:
            p.interruptions.mute(response)
        speaking = p.turns.speaking and p.settings.server_interrupts
        for response in p.turns.disconnected():
            if response.out_of_band:
                self._cut(response, "failed", again=False)
            elif response.interlude_in is not None:
                self._cut(response, "incomplete", again=False)
            elif response.client_calls or p.calls.batches.has(response):
                self._cut(response, "completed", again=False)
            elif response.cancelling or speaking or (response.muted and response not in held):
                self._cut(response, "cancelled", again=False)
            elif p.unfinished.is_whole(response) and response not in held:
                self._cut(response, "completed", again=False)
            else:
                self._cut(response, "incomplete", again=True)
        p.calls.forget_hosted()

    def ended(self) -> None:
        """There will be no other socket: what the user said and no socket has told of is recorded all the same."""
        p = self._p
        if p.config.transport is Transport.EVENTS:
            return
        history = p.history.json()
        known = [item["content"] for item in history if item["type"] == "message" and item["role"] == "user"]
        for item in p.out.uplink.unheard:
            item_id = wire.text(item, "id")
            # A server that gives items ids of its own has confirmed it under another one.
            if item_id and not p.history.is_hidden(item_id) and p.history.shown(item)["content"] not in known:
                p.transcript.open(item, None, p.settings.agent.name)
                p.transcript.said(item, transcribes=False)
        for item_id in p.out.uplink.unadded:
            if p.history.item(item_id) is None:
                p.transcript.untold(item_id, p.settings.agent.name)

    def due(self) -> None:
        """The wait is over."""
        self._p.out.add(Dial(self.address))

    # --- the next socket ------------------------------------------------------------------------------

    def opened(self) -> None:
        """Tell the socket everything."""
        p = self._p
        p.out.uplink.open = False
        p.out.uplink.forget()
        if p.config.recovering is Recovering.ATTACH:
            return
        if p.config.models:
            p.settings.serve(p.config.models[self.address])
        self._replay = Replay(p.out)
        p.out.ids = self._replay.ids
        self.tell(self._replay)
        self._note_told()

    def tell(self, replay: Replay) -> None:
        """Tell a socket the conversation as it is now."""
        items, _ = self._conversation.items()
        replay.begin(self._p.settings.told, items)

    def moved_to(self, replay: Replay) -> None:
        """Another socket, which knows the conversation as of a moment ago, is in use."""
        self._p.out.uplink.forget()
        self._replay = replay
        self._p.out.ids = replay.ids
        replay.refresh(self._p.settings.told)
        self._resume(None, attempt=1)

    def heard(self, kind: str, event: Event) -> bool:
        """An event of the model, of `TELLING`: whether it answers the replay and nothing else."""
        uplink = self._p.out.uplink
        if kind in _ECHOES and uplink.replayed and wire.text(wire.mapping(event, "item"), "id") in uplink.replayed:
            return True
        if kind == "response.done" and wire.text(wire.mapping(event, "response"), "status") == "completed":
            self._answered = True
        if self._replay.heard(kind, event):
            return True
        uplink.heard(kind, event)
        return False

    def placed(self, kind: str, event: Event) -> Event:
        """An event of the same: a new item goes behind what its socket was not told of and stands before it."""
        uplink, history = self._p.out.uplink, self._p.history
        if not uplink.untold or kind not in _ECHOES or "previous_item_id" not in event:
            return event
        if history.item(wire.text(wire.mapping(event, "item"), "id")) is not None:
            return event
        previous = wire.text(event, "previous_item_id")
        behind = history.last_behind(previous, uplink.untold)
        return event if behind == previous else {**event, "previous_item_id": behind}

    @property
    def is_confirmed(self) -> bool:
        return self._replay.is_confirmed

    @property
    def is_refused(self) -> bool:
        """Whether the next socket does not take the session's settings."""
        return self._replay.is_refused

    def live(self) -> None:
        """The socket serves."""
        self._live_since = self._p.out.now
        self._met = True

    def resume(self, session: Event | None) -> None:
        """The next socket knows the conversation: what came meanwhile goes out, then what is unanswered is asked."""
        p = self._p
        self._resume(session, attempt=max(1, self._backoff.attempt))
        p.out.add(ReleaseAudio())
        if p.config.recovering is not Recovering.ATTACH:  # else first comes what has become of the call
            p.turns.connected()

    def _resume(self, session: Event | None, *, attempt: int) -> None:
        self.live()
        self._p.out.record(EventType.MODEL_RECONNECTED, attempt=attempt)
        self.catch_up(session)

    def catch_up(self, session: Event | None) -> None:
        """What has changed since the socket was told, and what waited."""
        p, uplink = self._p, self._p.out.uplink
        if p.config.recovering is Recovering.ATTACH:
            for event in uplink.reopened():
                p.out.pass_on(event)
            return
        items, calls = self._conversation.items()
        self._replay.bring(items)
        self._note_told()
        uplink.missing = {call_id: (item.id, self._out_of_place(item.wire)) for call_id, (_, item) in calls.items()}
        waiting = uplink.reopened()
        p.settings.moved(session)
        p.settings_sent()
        for event in waiting:
            if not self._is_told(event):
                p.out.pass_on(event)

    def truncated(self) -> list[Event]:
        """What the model owes for truncations of items that it knows as text; they are told anew as they were heard."""
        uplink = self._p.out.uplink
        events, uplink.truncated = uplink.truncated, []
        return [{**event, "type": "conversation.item.truncated"} for event in events]

    def heard_less(self, item_id: str) -> None:
        """An item was truncated."""
        if self._p.out.uplink.open:
            items, _ = self._conversation.items()
            left = next((item for item in items if item.id == item_id), None)
            if left is None:
                self._p.out.uplink.untold.add(item_id)
            self._replay.replace(item_id, left)

    def _note_told(self) -> None:
        """Which items' echoes tell nothing new, and which spoken answers this socket knows as text."""
        uplink, history = self._p.out.uplink, self._p.history
        told = self._replay.told
        uplink.replayed = {
            item.id for item in told if history.item(item.id) or history.is_hidden(item.id) or item.id in uplink.extras
        }
        uplink.untold = {item["item_id"] for item in history.json()} - {item.id for item in told}
        uplink.spoken_texts = {item.id for item in told if wire.text(item.wire, "role") == "assistant"}

    def _out_of_place(self, item: Event) -> Event:
        return {"type": "conversation.item.create", "event_id": self._p.out.mint(), "item": item}

    def _is_told(self, event: Event) -> bool:
        """Whether the replay has told what this event, which waited, would."""
        item = wire.mapping(event, "item")
        if wire.text(event, "type") != "conversation.item.create":
            return False
        if wire.text(item, "type") == "function_call_output":
            return self._is_shown(item)
        return wire.text(item, "id") in self._p.out.uplink.replayed

    def _is_shown(self, item: Event) -> bool:
        """Whether the history shows this item once the model has it, by itself or as the output of a call."""
        kind, history = wire.text(item, "type"), self._p.history
        if kind == "function_call_output":
            return history.has_output(wire.text(item, "call_id"))
        return kind == "message" and not history.is_hidden(wire.text(item, "id"))


def _cause(item: LinkLost, code: str | None, *, was_live: bool, moves: bool) -> str:
    if code == SESSION_EXPIRED:
        return "expired"
    if code in ("model_silent", DEAD_AIR):
        return "silent" if code == "model_silent" else "dead_air"
    if moves and (item.fatal or is_fatal(code, item.close_code) or code == CIRCUIT_OPEN):
        return "fallback"
    return "dropped" if was_live or item.close_code is not None else "unreachable"
