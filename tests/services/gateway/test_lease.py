"""What is said on a call, and when its gateway may not be sure to be the one that says it."""

from collections.abc import Callable, Mapping
from typing import Any

from voicebus_services.gateway.lease import MAX_WAITING, Lease, LeasedLink


class Call:
    """A model's link that remembers, a clock that a test sets, and a session that is confirmed when the test says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[Any] = []
        self.asked: list[Callable[[], None]] = []
        self.lease = Lease(lambda: self.now)
        self.lease.renewed(self.now)
        self.link = LeasedLink(self, self.lease, self.asked.append)

    def send(self, event: Mapping[str, Any]) -> None:
        self.sent.append(event["n"])

    def send_frame(self, frame: bytes) -> None:
        self.sent.append(frame)

    async def close(self) -> None:
        self.sent.append("closed")

    def says(self, *numbers: int) -> None:
        for n in numbers:
            self.link.send({"n": n})


def test_under_its_lease_all_is_said_at_once() -> None:
    call = Call()
    call.says(1)
    call.now += 1.9
    call.says(2)
    call.lease.renewed(call.now)
    call.now += 1.9
    call.link.send_frame(b"3")
    assert (call.sent, call.asked) == ([1, 2, b"3"], [])


def test_shortly_before_the_lease_runs_out_nothing_is_said_until_it_is_renewed_and_the_session_confirmed() -> None:
    call = Call()
    call.now += 2.0  # half a second before its end
    call.says(1, 2)
    assert (call.sent, call.asked) == ([], [])
    call.lease.renewed(call.now)
    assert call.sent == []
    (confirmed,) = call.asked
    call.says(3)
    confirmed()
    assert call.sent == [1, 2, 3]


def test_a_renewal_counts_from_when_it_was_begun() -> None:
    call = Call()
    call.now += 2.2
    call.lease.renewed(call.now - 2.1)
    call.says(1)
    assert call.sent == []


def test_after_a_lapse_nothing_is_said_before_the_session_is_confirmed_although_the_lease_holds_again() -> None:
    call = Call()
    call.now += 10
    call.lease.renewed(call.now)
    assert call.lease.holds
    call.says(1)
    assert call.sent == []
    (confirmed,) = call.asked
    # It lapses once more before the word comes: what was confirmed then says nothing of now.
    call.now += 10
    call.lease.renewed(call.now)
    confirmed()
    assert call.sent == []
    call.asked[1]()
    assert call.sent == [1]


async def test_what_another_gateway_owns_by_then_is_never_said() -> None:
    call = Call()
    call.now += 10
    call.says(*range(MAX_WAITING + 5))
    call.lease.renewed(call.now)
    await call.link.close()
    call.asked[0]()
    assert call.sent == ["closed"]
