"""Circuit breakers for models: an address that has failed too often of late is not dialled for a while.

One for each address, shared by the sessions of a process, so that a dead provider costs a caller nothing. A server that
refuses what one session asks for, such as a model that it does not have, serves the others.
"""

from collections.abc import Callable
from typing import Final

from voicebus.adapters.sockets import ABNORMAL
from voicebus.engine.failures import CIRCUIT_OPEN, REFUSED_KEY, REFUSED_REQUEST, is_fatal
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelConnector, ModelLink, ModelListener
from voicebus.telemetry import metrics

_FAILURES: Final = 5
_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 15.0


class CircuitBreaker:
    """Opens after five failures in a row; after a rest one attempt is let through, which closes it if it is good.

    The first rest is 1 s, as a model that restarts cuts all sessions at once; each further one is twice as long, up to
    15 s. `address` names it in the metric; `clock` is monotonic, in s.
    """

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self._gauge = metrics.MODEL_CIRCUIT_OPEN.labels(address=address)
        self._gauge.set(0)
        self._clock = clock
        self._failures = 0
        self._until: float | None = None
        self._rest = _FIRST_REST_S

    @property
    def is_open(self) -> bool:
        """Whether an attempt is refused now. The first one after the rest is let through, and the next waits again."""
        if self._until is None:
            return False
        if self._clock() < self._until:
            return True
        self._rest = min(_LONGEST_REST_S, self._rest * 2)
        self._until = self._clock() + self._rest
        return False

    def succeeded(self) -> None:
        self._failures, self._until, self._rest = 0, None, _FIRST_REST_S
        self._gauge.set(0)

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES and self._until is None:
            self._until = self._clock() + self._rest
            self._gauge.set(1)


class GuardedConnector:
    """A connector behind a breaker. Implements `ModelConnector`."""

    def __init__(self, connector: ModelConnector, breaker: CircuitBreaker, *, joins: bool = False) -> None:
        self._connector = connector
        self._breaker = breaker
        self._joins = joins

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        """As the connector; a link counts as good with the first frame that is heard on it.

        Raises:
            ModelLinkError: as the connector; with code `circuit_open` where the address is not dialled.
        """
        if self._breaker.is_open:
            raise ModelLinkError("the model has failed too often of late and is not dialled now", code=CIRCUIT_OPEN)
        try:
            return await self._connector.connect(_Watched(listener, self._breaker, joins=self._joins), model=model)
        except ModelLinkError as error:
            if not error.fatal or (error.code == REFUSED_KEY and not self._joins):
                self._breaker.failed()
            raise

    def joining(self, joined: ModelConnector) -> "GuardedConnector":
        """`joined`, a way to a call at this address, behind the same breaker.

        What is refused of a call concerns this call alone: it may just be over.
        """
        return GuardedConnector(joined, self._breaker, joins=True)


class _Watched:
    """Tells the breaker what becomes of a link. Implements `ModelListener`."""

    def __init__(self, listener: ModelListener, breaker: CircuitBreaker, *, joins: bool) -> None:
        self._listener = listener
        self._breaker = breaker
        self._joins = joins
        # Whether nothing has been heard yet that shows the link to be good.
        self._first = True

    def model_frame(self, frame: bytes) -> None:
        if self._first:
            # A refusal comes as a frame as well: what follows in the same moment tells.
            self._first = b'"type":"error"' in frame or b'"type": "error"' in frame
            if not self._first:
                self._breaker.succeeded()
        self._listener.model_frame(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        is_over = self._joins and close_code not in (None, ABNORMAL)  # the call, not the way to it
        if (self._first or is_fatal(None, close_code)) and close_code != REFUSED_REQUEST and not is_over:
            self._breaker.failed()
        self._listener.model_lost(why, close_code)
