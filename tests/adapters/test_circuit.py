"""The breaker between sessions and a model's address."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from voicebus.adapters.circuit import CircuitBreaker, GuardedConnector
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelLink, ModelListener

CREATED = b'{"type":"session.created"}'
ANSWERS = b'{"type":"response.created","response":{"id":"resp_1"}}'
DELTA = b'{"type":"response.output_audio.delta","response_id":"resp_1","item_id":"item_1","delta":"AAAA"}'
HEARD = b'{"type":"conversation.item.input_audio_transcription.delta","item_id":"item_2","delta":"Hi"}'
DONE = b'{"type":"response.done","response":{"id":"resp_1","status":"completed"}}'


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Link:
    def send(self, event: Mapping[str, Any]) -> None: ...

    def send_frame(self, frame: bytes) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Connector:
    fails: bool = False
    error: ModelLinkError | None = None
    dialled: int = 0
    listeners: list[ModelListener] = field(default_factory=list)

    async def connect(self, listener: ModelListener, *, model: str) -> ModelLink:
        self.dialled += 1
        self.listeners.append(listener)
        if self.error is not None:
            raise self.error
        if self.fails:
            raise ModelLinkError("unreachable")
        return Link()


@dataclass
class Listener:
    heard: list[object] = field(default_factory=list)

    def model_frame(self, frame: bytes) -> None:
        self.heard.append(frame)

    def model_lost(self, why: str, close_code: int | None) -> None:
        self.heard.append((why, close_code))


def gauge(address: str) -> float | None:
    return REGISTRY.get_sample_value("voicebus_model_circuit_open", {"address": address})


async def failing(guarded: GuardedConnector, times: int, code: str | None = None) -> None:
    for _ in range(times):
        with pytest.raises(ModelLinkError) as raised:
            await guarded.connect(Listener(), model="m")
        assert raised.value.code == code


def one_more(guarded: GuardedConnector) -> GuardedConnector:
    """The way of a session that was not there before."""
    return guarded.of_session(uuid4().hex)


async def listening(connector: Connector, guarded: GuardedConnector) -> ModelListener:
    """What hears the link of one more session."""
    await one_more(guarded).connect(Listener(), model="m")
    return connector.listeners[-1]


async def dies(
    connector: Connector,
    guarded: GuardedConnector,
    clock: Clock,
    *frames: bytes,
    after: float = 1.0,
    code: int | None = None,
) -> None:
    """A link says this and is lost."""
    await guarded.connect(Listener(), model="m")
    for frame in frames:
        connector.listeners[-1].model_frame(frame)
    clock.now += after
    connector.listeners[-1].model_lost("cut", code)


async def test_an_address_that_fails_five_times_is_left_alone_and_tried_once_after_a_rest() -> None:
    clock, connector = Clock(), Connector(fails=True)
    guarded = GuardedConnector(connector, CircuitBreaker("one", clock))
    await failing(guarded, 5)
    assert gauge("one") == 1
    await failing(guarded, 3, "circuit_open")
    assert connector.dialled == 5
    clock.now = 1.0
    await failing(guarded, 1)
    await failing(guarded, 1, "circuit_open")
    assert connector.dialled == 6


async def test_the_rests_grow_with_attempts_that_fail_and_not_with_sessions_that_fail_at_once() -> None:
    clock, connector = Clock(), Connector(fails=True)
    breaker = CircuitBreaker("four", clock)
    guarded = GuardedConnector(connector, breaker)
    for _ in range(40):  # as many were dialling when the model went away
        breaker.failed()
    rests = []
    for _ in range(6):
        since = clock.now
        while True:
            clock.now += 0.5
            with pytest.raises(ModelLinkError) as raised:
                await guarded.connect(Listener(), model="m")
            if raised.value.code is None:
                break
        rests.append(clock.now - since)
    assert rests == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    clock.now, connector.fails = clock.now + 15.0, False
    await guarded.connect(Listener(), model="m")
    connector.listeners[-1].model_frame(b'{"type":"session.created"}')
    connector.fails = True
    await failing(guarded, 5)
    clock.now += 1.0
    await failing(guarded, 1)


async def test_a_link_that_is_heard_closes_the_circuit() -> None:
    clock, connector = Clock(), Connector(fails=True)
    guarded = GuardedConnector(connector, CircuitBreaker("two", clock))
    await failing(guarded, 5)
    clock.now, connector.fails = 15.0, False
    listener = Listener()
    await guarded.connect(listener, model="m")
    connector.listeners[-1].model_frame(b'{"type":"session.created"}')
    assert gauge("two") == 0
    await guarded.connect(Listener(), model="m")
    assert listener.heard == [b'{"type":"session.created"}']


async def test_a_link_that_is_refused_behind_the_handshake_has_failed() -> None:
    connector = Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("three", Clock()))
    for _ in range(5):
        listener = Listener()
        await guarded.connect(listener, model="m")
        connector.listeners[-1].model_frame(b'{"type":"error","error":{"code":"invalid_api_key"}}')
        connector.listeners[-1].model_lost("refused", 3000)
        assert listener.heard[-1] == ("refused", 3000)
    assert gauge("three") == 1


async def test_links_that_were_good_stay_good_whatever_the_model_complains_of_later() -> None:
    connector = Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("good", Clock()))
    for _ in range(5):
        await guarded.connect(Listener(), model="m")
    hears = [listener.model_frame for listener in connector.listeners]  # as a link asks for it: once
    for frame in (b'{"type":"session.created"}', b'{"type":"error","error":{"code":"response_cancel_not_active"}}'):
        for hear in hears:
            hear(frame)
    for listener in connector.listeners:
        listener.model_lost("cut", None)
    assert gauge("good") == 0


async def test_a_model_whose_sockets_die_in_the_answers_of_three_sessions_is_left_alone_until_one_is_complete() -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("cutting", clock))
    for frames in ((CREATED, ANSWERS), (CREATED,), (CREATED, ANSWERS)):
        assert gauge("cutting") == 0
        await dies(connector, one_more(guarded), clock, *frames)
    assert gauge("cutting") == 1
    await failing(one_more(guarded), 1, "circuit_open")
    clock.now += 1.0
    await one_more(guarded).connect(Listener(), model="m")
    connector.listeners[-1].model_frame(CREATED)
    await failing(one_more(guarded), 1, "circuit_open")
    connector.listeners[-1].model_frame(ANSWERS)
    connector.listeners[-1].model_frame(DONE)
    assert gauge("cutting") == 0


async def test_a_long_answer_closes_the_circuit_before_its_end() -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("long", clock))
    for _ in range(3):
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
    clock.now += 1.0
    await one_more(guarded).connect(Listener(), model="m")
    probe = connector.listeners[-1]
    probe.model_frame(CREATED)
    probe.model_frame(ANSWERS)
    clock.now += 9.0
    probe.model_frame(DELTA)
    assert gauge("long") == 1
    clock.now += 1.0
    probe.model_frame(DELTA)
    assert gauge("long") == 0
    probe.model_lost("cut", None)
    for _ in range(2):
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
    assert gauge("long") == 0, "the long answer's socket is not on the count"


@pytest.mark.parametrize("delta", [DELTA, HEARD])
async def test_an_answer_whose_end_nobody_looked_for_closes_no_later_circuit(delta: bytes) -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker(f"later-{delta is HEARD}", clock))
    good, other = [await listening(connector, guarded) for _ in range(2)]
    for frame in (CREATED, ANSWERS, DONE):
        good.model_frame(frame)
    await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
    good.model_frame(ANSWERS)
    for frame in (CREATED, ANSWERS, DONE):
        other.model_frame(frame)
    good.model_frame(DONE)
    clock.now += 60.0
    for _ in range(3):
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
    for _ in range(2):
        good.model_frame(delta)
        clock.now += 20.0
    assert gauge(f"later-{delta is HEARD}") == 1
    good.model_frame(DONE)
    assert gauge(f"later-{delta is HEARD}") == 0


async def test_sockets_that_die_among_good_answers_leave_the_circuit_closed() -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("mostly", clock))
    await one_more(guarded).connect(Listener(), model="m")
    good = connector.listeners[-1]
    for frame in (CREATED, ANSWERS, DONE):
        good.model_frame(frame)
    for _ in range(10):
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS, DONE, ANSWERS)
    for _ in range(10):
        await dies(connector, one_more(guarded), clock, CREATED, ANSWERS)
        good.model_frame(DONE)
    assert gauge("mostly") == 0


async def test_one_session_whose_answers_kill_its_sockets_leaves_the_circuit_closed_for_the_others() -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("one-of-them", clock))
    ways = (guarded.of_session("s1"), guarded.of_session("s1"), guarded.joining(connector, "s1"))
    for way in ways * 5:
        await dies(connector, way, clock, CREATED, ANSWERS)
    assert gauge("one-of-them") == 0


async def test_sockets_that_die_together_count_as_one() -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("restarting", clock))
    for _ in range(40):
        await one_more(guarded).connect(Listener(), model="m")
        connector.listeners[-1].model_frame(CREATED)
        connector.listeners[-1].model_frame(ANSWERS)
    for listener in connector.listeners:
        clock.now += 0.01
        listener.model_lost("cut", None)
    assert gauge("restarting") == 0


@pytest.mark.parametrize(("seconds", "code"), [(30.0, None), (1.0, 1000), (1.0, 1001), (1.0, 1009), (1.0, 4000)])
async def test_sockets_that_end_while_nobody_asks_or_for_a_reason_leave_the_circuit_closed(
    seconds: float, code: int | None
) -> None:
    clock, connector = Clock(), Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("ending", clock))
    for _ in range(10):
        await dies(connector, one_more(guarded), clock, CREATED, after=seconds, code=code)
    assert gauge("ending") == 0


async def test_what_a_server_refuses_to_one_session_leaves_the_circuit_closed_for_the_others() -> None:
    connector = Connector()
    guarded = GuardedConnector(connector, CircuitBreaker("refusing", Clock()))
    for _ in range(10):
        await guarded.connect(Listener(), model="unknown")
        connector.listeners[-1].model_frame(b'{"type":"error","error":{"code":"invalid_model"}}')
        connector.listeners[-1].model_lost("refused", 4000)
    connector.error = ModelLinkError("HTTP 400", fatal=True)
    await failing(guarded, 10)
    assert gauge("refusing") == 0
    connector.error = ModelLinkError("HTTP 401", code="invalid_api_key", fatal=True)
    await failing(guarded, 5, "invalid_api_key")
    assert gauge("refusing") == 1


async def test_calls_that_are_joined_are_behind_the_breaker_of_their_address_and_not_what_is_refused_of_one() -> None:
    clock, connector = Clock(), Connector(fails=True)
    joined = Connector(error=ModelLinkError("no such call", fatal=True))
    guarded = GuardedConnector(connector, CircuitBreaker("joined", clock))
    for _ in range(10):
        with pytest.raises(ModelLinkError, match="no such call"):
            await guarded.joining(joined, uuid4().hex).connect(Listener(), model="m")
    joined.error = None
    for _ in range(10):
        await guarded.joining(joined, uuid4().hex).connect(Listener(), model="m")
        joined.listeners[-1].model_lost("over", 1000)
    assert gauge("joined") == 0
    for _ in range(5):
        await guarded.joining(joined, uuid4().hex).connect(Listener(), model="m")
        joined.listeners[-1].model_lost("cut", None)
    assert gauge("joined") == 1
    dialled = joined.dialled
    await failing(guarded.joining(joined, uuid4().hex), 1, "circuit_open")
    await failing(guarded, 1, "circuit_open")
    assert (joined.dialled, connector.dialled) == (dialled, 0)
