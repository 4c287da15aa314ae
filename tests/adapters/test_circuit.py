"""The breaker between sessions and a model's address."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import REGISTRY

from voicebus.adapters.circuit import CircuitBreaker, GuardedConnector
from voicebus.errors import ModelLinkError
from voicebus.ports import ModelLink, ModelListener


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
            await guarded.joining(joined).connect(Listener(), model="m")
    joined.error = None
    for _ in range(10):
        await guarded.joining(joined).connect(Listener(), model="m")
        joined.listeners[-1].model_lost("over", 1000)
    assert gauge("joined") == 0
    for _ in range(5):
        await guarded.joining(joined).connect(Listener(), model="m")
        joined.listeners[-1].model_lost("cut", None)
    assert gauge("joined") == 1
    dialled = joined.dialled
    await failing(guarded.joining(joined), 1, "circuit_open")
    await failing(guarded, 1, "circuit_open")
    assert (joined.dialled, connector.dialled) == (dialled, 0)
