"""When a gateway takes another one for dead, and goes on with its calls."""

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.gateway_calls import GatewayCalls
from voicebus.errors import BusError
from voicebus_services.gateway.adopting import Adopting
from voicebus_services.gateway.calling import Calling
from voicebus_services.gateway.moving import Moving
from voicebus_services.gateway.takeover import Takeover
from voicebus_services.http import ProblemError


class Cluster:
    """Another gateway with one call, as Redis tells of it; `lives_ms` and `stops` are its heartbeat."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lives_ms = 0
        self.stops = False
        self.away: list[str] = []
        self.calls = {"other": ["c"], "me": list[str]()}
        self.state: dict[str, Any] = {
            "owner": "other", "epoch": 1, "ended": False, "face": "sideband", "seq": 3, "moving": False,
        }  # fmt: skip
        self.lease_ms = 0
        self.full = False
        self.contact = Contact(clock=lambda: self.now)
        self.taken: list[str] = []
        self.adopting = Adopting(
            cast("Takeover", self),
            cast("Moving", self),
            cast("Calling", self),
            cast("GatewayCalls", self),
            is_dead=self.is_dead,
            clock=lambda: self.now,
        )
        self.adopted = self.adopting  # what makes a call's face; nobody is asked here

    async def at(self, *moments: float) -> list[str]:
        for self.now in moments:
            with self.contact.writing("redis"):
                pass
            await self.adopting.look()
            await self.adopting.settle()
        return self.taken

    def refuses(self, moment: float) -> None:
        self.now = moment
        with contextlib.suppress(OSError), self.contact.writing("redis"):
            raise OSError

    async def is_dead(self, gateway: str) -> bool:
        return gateway == "other" and self.contact.is_unbroken("redis")

    # --- GatewayCalls

    async def others(self) -> list[str]:
        return [*self.away, "other"]

    async def standing(self, gateway: str) -> tuple[int, bool]:
        if gateway in self.away:
            raise BusError("its master is away")
        return self.lives_ms, self.stops

    async def of(self, gateway: str) -> list[str]:
        return list(self.calls[gateway])

    async def add(self, call_id: str) -> None:
        self.calls["me"].append(call_id)

    def remove(self, call_id: str, gateway: str = "me") -> None:
        self.calls[gateway].remove(call_id)

    # --- Takeover

    async def look(self, session: str) -> Any:
        return SimpleNamespace(session=session, lives_for_ms=self.lease_ms, **self.state)

    async def adopt(self, standing: Any, make: Any) -> bool:
        if self.full:
            raise ProblemError(503, "full", "no room")
        self.taken.append(standing.session)
        return True

    # --- Moving

    async def fetch_call(self, standing: Any, make: Any) -> bool:
        self.taken.append(f"asked for {standing.session}")
        return True


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_call_is_adopted_after_a_lease_time_of_unbroken_contact_and_not_before(cluster: Cluster) -> None:
    assert await cluster.at(0.0, 1.0, 2.0, 2.4) == []
    assert await cluster.at(2.6) == ["c"]
    assert cluster.calls == {"other": [], "me": ["c"]}


async def test_a_gap_in_the_contact_or_another_master_begins_the_lease_time_anew(cluster: Cluster) -> None:
    assert await cluster.at(0.0, 1.0, 2.0) == []
    cluster.refuses(2.2)
    assert await cluster.at(2.6, 3.0, 4.0, 4.6) == []
    cluster.contact.broke()
    assert await cluster.at(4.8, 5.8, 6.8, 7.2) == []
    assert await cluster.at(7.4) == ["c"]


async def test_a_gateway_whose_master_is_away_keeps_nobody_elses_calls_waiting(cluster: Cluster) -> None:
    cluster.away = ["first"]
    assert await cluster.at(0.0, 1.0, 2.0, 2.6) == ["c"]


async def test_who_lives_keeps_its_calls_and_who_stops_loses_what_it_gave_up(cluster: Cluster) -> None:
    cluster.lives_ms = cluster.lease_ms = 1500
    assert await cluster.at(*[n / 2 for n in range(10)]) == []
    cluster.stops = True
    assert await cluster.at(5.0, 5.5, 6.0) == [], "it has not given this call up yet"
    cluster.lease_ms = 0
    assert await cluster.at(6.5) == ["c"]


async def test_of_a_gateway_that_stops_its_calls_are_asked_for_while_it_serves_on(cluster: Cluster) -> None:
    cluster.lives_ms, cluster.lease_ms, cluster.stops, cluster.state["moving"] = 1500, 1500, True, True
    assert await cluster.at(0.0, 1.0, 2.0, 2.6) == ["asked for c"]


async def test_a_call_that_found_no_room_is_tried_again(cluster: Cluster) -> None:
    cluster.full = True
    assert await cluster.at(0.0, 1.0, 2.0, 2.6) == []
    assert cluster.calls == {"other": ["c"], "me": []}
    cluster.full = False
    assert await cluster.at(2.8) == ["c"]


async def test_a_call_that_is_over_or_another_gateways_is_forgotten(cluster: Cluster) -> None:
    cluster.state["owner"] = "a third one"
    assert await cluster.at(0.0, 1.0, 2.0, 2.6) == []
    assert cluster.calls == {"other": [], "me": []}


async def test_a_gateway_that_stops_adopts_nothing(cluster: Cluster) -> None:
    cluster.adopting.stop()
    assert await cluster.at(0.0, 1.0, 2.0, 3.0) == []
