"""Circuit breakers for models: an address that has failed too often of late is not dialled for a while.

One for each address, shared by the sessions of a process, so that a dead provider costs a caller nothing. A server that
refuses what one session asks for, such as a model that it does not have, serves the others. So does one whose sockets
die under the answers of one session: what is asked for may be why.
"""

from collections.abc import Callable
from typing import Final

from voicebus.adapters.sockets import ABNORMAL, INTERNAL_ERROR
from voicebus.engine.failures import CIRCUIT_OPEN, REFUSED_KEY, REFUSED_REQUEST, is_fatal
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelConnector, ModelLink, ModelListener
from voicebus.runtime.frames import DELTA_MARK
from voicebus.telemetry import metrics

_FAILURES: Final = 5
# Sessions in a row whose sockets died before an answer was complete.
_CUT_SESSIONS: Final = 3
# A socket that lived so long (s) without an answer under way may have died of having nothing to do. As much of an
# answer is as good as all of it: sessions that wait for the circuit would not wait for a long one's end.
_PROVED_S: Final = 10.0
# How sockets die, unlike those that a server closes for a reason of its own.
_DEATHS: Final = (None, ABNORMAL, INTERNAL_ERROR)
# As they stand in frames: no text that is said can contain them, as its quotation marks are escaped.
_BEGUN: Final = b'"response.created"'
_DONE: Final = b'"response.done"'
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 15.0


class CircuitBreaker:
    """Opens after five failures in a row, or after sockets of three sessions in a row have died before an answer.

    After a rest one attempt is let through. It closes the circuit if it is good: if the link is heard, or, where
    answers were cut, once any is complete or has run for 10 s. The first rest is 1 s, as a model that restarts cuts all
    sessions at once; each further one is twice as long, up to 15 s. `address` names it in the metric; `clock` is
    monotonic, in s.
    """

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self._gauge = metrics.MODEL_CIRCUIT_OPEN.labels(address=address)
        self._gauge.set(0)
        self.clock: Callable[[], float] = clock
        self._failures = 0
        self._cut: set[object] = set()
        self._last_cut = float("-inf")
        self.is_doubted: bool = False
        """Whether a socket has died before an answer since one was complete. Asked for with every frame."""
        self.doubted_since: float = float("-inf")
        self._until: float | None = None
        self._rest = _FIRST_REST_S

    @property
    def is_open(self) -> bool:
        """Whether an attempt is refused now. The first one after the rest is let through, and the next waits again."""
        if self._until is None:
            return False
        if self.clock() < self._until:
            return True
        self._rest = min(_LONGEST_REST_S, self._rest * 2)
        self._until = self.clock() + self._rest
        return False

    def succeeded(self) -> None:
        """A link was heard."""
        self._failures = 0
        self._settle()

    def failed(self) -> None:
        self._failures += 1
        self._settle()

    def answered(self) -> None:
        """An answer is complete, or has come far enough."""
        self._cut.clear()
        self.is_doubted = False
        self._settle()

    def cut(self, session: object, opened: float) -> None:
        """A link of `session` that was opened at this time has died before it completed an answer.

        Links that die together die of one thing, such as a restart, and count as one.
        """
        if opened < self._last_cut or session in self._cut or len(self._cut) >= _CUT_SESSIONS:
            return
        self._cut.add(session)
        self._last_cut = self.clock()
        if not self.is_doubted:
            self.is_doubted, self.doubted_since = True, self._last_cut
        self._settle()

    def _settle(self) -> None:
        is_bad = self._failures >= _FAILURES or len(self._cut) >= _CUT_SESSIONS
        if is_bad and self._until is None:
            self._until = self.clock() + self._rest
            self._gauge.set(1)
        elif not is_bad and self._until is not None:
            self._until, self._rest = None, _FIRST_REST_S
            self._gauge.set(0)


class GuardedConnector:
    """A connector behind a breaker, of one session where it is `of_session`. Implements `ModelConnector`."""

    def __init__(
        self, connector: ModelConnector, breaker: CircuitBreaker, *, session: str | None = None, joins: bool = False
    ) -> None:
        self._connector = connector
        self._breaker = breaker
        self._session: object = self if session is None else session
        self._joins = joins

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        """As the connector; a link counts as good with the first frame that is heard on it.

        Raises:
            ModelLinkError: as the connector; with code `circuit_open` where the address is not dialled.
        """
        if self._breaker.is_open:
            raise ModelLinkError("the model has failed too often of late and is not dialled now", code=CIRCUIT_OPEN)
        try:
            watched = _Watched(listener, self._breaker, self._session, joins=self._joins)
            return await self._connector.connect(watched, model=model)
        except ModelLinkError as error:
            if not error.fatal or (error.code == REFUSED_KEY and not self._joins):
                self._breaker.failed()
            raise

    def of_session(self, session: str) -> "GuardedConnector":
        """The same for one session, whose lost answers count once, however often this is asked for."""
        return GuardedConnector(self._connector, self._breaker, session=session, joins=self._joins)

    def joining(self, joined: ModelConnector, call_id: str) -> "GuardedConnector":
        """`joined`, a way to this call, a session at this address, behind the same breaker.

        What is refused of a call concerns this call alone: it may just be over.
        """
        return GuardedConnector(joined, self._breaker, session=call_id, joins=True)


class _Watched:
    """Tells the breaker what becomes of a link. Implements `ModelListener`."""

    def __init__(self, listener: ModelListener, breaker: CircuitBreaker, session: object, *, joins: bool) -> None:
        self._listener = listener
        self._breaker = breaker
        self._session = session
        self._joins = joins
        self._opened = breaker.clock()
        # Whether nothing has been heard yet that shows the link to be good.
        self._first = True
        # When it began its answer, None where it has none under way, and whether none was complete yet.
        self._began: float | None = None
        self._unproved = True

    def model_frame(self, frame: bytes) -> None:
        if self._unproved or self._breaker.is_doubted:
            self._look(frame)
        self._listener.model_frame(frame)

    def _look(self, frame: bytes) -> None:
        """What the frame says of the link."""
        if not self._unproved and self._began is not None and self._began < self._breaker.doubted_since:
            self._began = None  # its end may have come while nobody looked
        if self._first:
            # A refusal comes as a frame as well: what follows in the same moment tells.
            self._first = b'"type":"error"' in frame or b'"type": "error"' in frame
            if not self._first:
                self._breaker.succeeded()
        if frame.find(DELTA_MARK) >= 0:  # nearly all, and large
            if self._began is not None and self._breaker.clock() - self._began >= _PROVED_S:
                self._answered()
        elif frame.find(_BEGUN) >= 0:
            self._began = self._breaker.clock()
        elif frame.find(_DONE) >= 0:
            self._answered()

    def _answered(self) -> None:
        self._began, self._unproved = None, False
        self._breaker.answered()

    def model_lost(self, why: str, close_code: int | None) -> None:
        is_over = self._joins and close_code not in (None, ABNORMAL)  # the call, not the way to it
        if (self._first or is_fatal(None, close_code)) and close_code != REFUSED_REQUEST and not is_over:
            self._breaker.failed()
        elif self._unproved and close_code in _DEATHS and not is_over:
            is_young = self._breaker.clock() - self._opened < _PROVED_S
            if is_young or self._began is not None:
                self._breaker.cut(self._session, self._opened)
        self._listener.model_lost(why, close_code)
