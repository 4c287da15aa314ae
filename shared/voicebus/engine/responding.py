"""The responses that there are: the one that runs, those of late events, and how long each is waited for.

Which response an event belongs to is decided here. Servers and models that name no response mean the one that runs; it
gets an id here, beside the one it may get later. A model of transport EVENTS may say something outside of any response.
"""

from collections.abc import Callable
from typing import Final

from voicebus.engine.config import AgentSpec
from voicebus.engine.outbox import Outbox
from voicebus.engine.responses import Create, Response

STALL_TIMER: Final = "stall"

# A response may be silent for this many times the limit of a create before it is given up.
_STALL_FACTOR: Final = 3
# Responses remembered after their end, for late events, verdicts and results.
_REMEMBERED: Final = 64


class Responses:
    """`active` is the one of the conversation that runs, `latest` the one that began last, `by_id` all that are known.

    `timeout` is that of a create (s). `watched`: the model is a server, whose responses end with an event, or stall.
    """

    def __init__(self, out: Outbox, agent: Callable[[], AgentSpec], timeout: float, *, watched: bool) -> None:
        self._out = out
        self._agent = agent
        self._watched = watched
        self.stall_timeout: float = timeout * _STALL_FACTOR
        # The end of the user's turn that has no answer yet.
        self._turn_ended: float | None = None
        self.answered: bool = False
        """Whether an answer of this session has begun by now, at whatever owner."""
        self.active: Response | None = None
        self.latest: Response | None = None
        self.by_id: dict[str, Response] = {}

    @property
    def apart(self) -> list[Response]:
        """Those that run out of band."""
        return [response for response in self.by_id.values() if response.active and response.out_of_band]

    def user_turn_ended(self) -> None:
        """Latencies of the answer count from now."""
        self._turn_ended = self._out.now

    # --- what events are about ------------------------------------------------------------------------

    def named(self, response_id: str) -> Response | None:
        """The response of this id; where none is named, or the one that runs has no name yet, that one."""
        active = self.active
        if not response_id:
            return active
        known = self.by_id.get(response_id)
        if known is None and active is not None and not active.model_id:
            active.model_id = response_id
            self.by_id[response_id] = known = active
        return known

    def touched(self, response_id: str) -> Response | None:
        """An event of `response_id` came: its response, opened now if its `response.created` is late (parity 2.28)."""
        known = self.named(response_id)
        if known is not None:
            known.last_event = self._out.now
        elif response_id or not self._watched:
            # Models of transport EVENTS may call a tool outside of any response: its call is answered all the same.
            known = self.open(response_id, None, current=bool(response_id))
        return known

    def spoken_in(self, response_id: str) -> Response | None:
        """As `touched`, of something that is said: what names no response, while none runs, is more of the last one."""
        if response_id or self._watched or self.active is not None:
            return self.touched(response_id)
        return self.latest or self.open("", None)

    def heard_of(self, response_id: str) -> None:
        """Something came of `response_id` that changes nothing; what names no response belongs to the one that runs."""
        response = self.named(response_id)
        if response is not None:
            response.last_event = self._out.now

    # --- their life -----------------------------------------------------------------------------------

    def open(self, response_id: str, create: Create | None, *, current: bool = True) -> Response:
        """A new response, which answers `create`; one that is not `current` has ended already."""
        out_of_band = create is not None and create.out_of_band
        now = self._out.now
        response = Response(
            response_id or self._out.mint(),
            self._agent(),
            now,
            response_id,
            create=create,
            out_of_band=out_of_band,
            active=current,
            last_event=now,
        )
        self.by_id[response.id] = response
        if current and not out_of_band:
            # An interlude is no answer to the user's turn, which is still waited for.
            response.waited_from = self._turn_ended if response.interlude_in is None else None
            self.active = self.latest = response
            if self._watched:
                self._out.set_timer(STALL_TIMER, self.stall_timeout)
        if len(self.by_id) > _REMEMBERED:
            for old in list(self.by_id)[: -_REMEMBERED // 2]:
                if self.by_id[old] is not self.active:
                    del self.by_id[old]
        return response

    def worded(self, response: Response) -> None:
        """The first text of a response is here."""
        response.first_text = self._out.now
        self._answers(response)

    def sounded(self, response: Response) -> None:
        """The first audio of a response is here."""
        response.first_audio = self._out.now
        self._answers(response)
        if response.waited_from is not None:
            self._out.observe("response_latency", self._out.now - response.waited_from)

    def _answers(self, response: Response) -> None:
        if not (self.answered or response.out_of_band or response.muted):
            self.answered = True
            self._out.observe("first_answer", self._out.ms() / 1000)

    def ended(self, response: Response, before: Response | None) -> None:
        """A response has ended; `before` is the one that ran before anything was heard of this one."""
        response.active = False
        answered = response.waited_from is not None and response.waited_from == self._turn_ended
        if answered and (response.first_audio or response.first_text) is not None:
            self._turn_ended = None  # that turn has got its answer; what follows is measured by itself
        if self.active is response:
            # One that nothing was heard of before leaves the one that runs alone.
            self.active = before if before is not None and before.active else None
        if self.active is None:
            self._out.cancel_timer(STALL_TIMER)

    def stalled(self, excused: Callable[[Response], bool]) -> Response | None:
        """The watch over the running response has run out: that response, if it is to be given up.

        The watch is not set again with each event, which would cost a timer for every piece of audio, but here.
        """
        response = self.active
        if response is None:
            return None
        left = response.last_event + self.stall_timeout - self._out.now
        if left <= 0 and not excused(response):
            return response
        self._out.set_timer(STALL_TIMER, left if left > 0 else self.stall_timeout)
        return None
