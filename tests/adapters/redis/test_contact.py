"""When a process has been in touch with Redis for long enough to say of others that they are dead."""

import contextlib

import pytest

from voicebus.adapters.redis.contact import Contact


class Writer:
    """Writes to one server, as time goes by."""

    def __init__(self) -> None:
        self.now = 0.0
        self.contact = Contact(clock=lambda: self.now)

    def takes(self, *moments: float, server: str = "a", after: float = 0.0) -> bool:
        """Whether contact is unbroken once it has taken writes at these moments, each `after` so long."""
        for moment in moments:
            self.now = moment
            with self.contact.writing(server):
                self.now += after
        return self.contact.is_unbroken(server)

    def refuses(self, moment: float, server: str = "a") -> bool:
        self.now = moment
        with contextlib.suppress(OSError), self.contact.writing(server):
            raise OSError
        return self.contact.is_unbroken(server)


@pytest.fixture
def writer() -> Writer:
    return Writer()


def test_contact_is_unbroken_once_all_has_been_taken_for_as_long_as_a_heartbeat_counts(writer: Writer) -> None:
    assert not writer.contact.is_unbroken("a")
    assert not writer.takes(0.0, 1.0, 2.0)
    assert writer.takes(3.0)


def test_a_write_that_failed_or_was_slow_or_another_master_begins_it_anew(writer: Writer) -> None:
    assert writer.takes(0.0, 1.0, 2.0, 3.0)
    assert not writer.refuses(4.0)
    assert not writer.takes(5.0, 6.0)
    assert writer.takes(7.0)
    assert not writer.takes(8.0, after=0.6)
    assert not writer.takes(9.0, 10.0, 11.0)
    assert writer.takes(12.0)
    writer.contact.broke()
    assert not writer.takes(13.0, 14.0, 15.0)
    assert writer.takes(16.0)
    writer.takes(14.0, 15.0, 16.0, 17.0, server="b")
    writer.contact.broke("b")
    assert not writer.contact.is_unbroken("b")
    assert writer.contact.is_unbroken("a")
    assert writer.takes(18.0, 19.0, 20.0, server="b")


def test_a_write_that_is_under_way_for_long_breaks_it_before_it_is_over(writer: Writer) -> None:
    assert writer.takes(0.0, 1.0, 2.0, 3.0)
    with writer.contact.writing("a"):
        assert writer.contact.is_unbroken("a")
        writer.now += 0.3
        assert not writer.contact.is_unbroken("a")
    assert writer.contact.is_unbroken("a")


def test_two_writes_to_one_server_may_be_under_way_at_once(writer: Writer) -> None:
    assert writer.takes(0.0, 1.0, 2.0, 3.0)
    with writer.contact.writing("a"), writer.contact.writing("a"):
        pass
    assert writer.contact.is_unbroken("a")


def test_each_server_is_judged_by_itself_and_one_that_is_not_written_to_by_all(writer: Writer) -> None:
    for moment in (0.0, 1.0, 2.0, 3.0):
        writer.takes(moment, server="b")
        writer.takes(moment)
    assert writer.contact.is_unbroken("c")
    assert not writer.refuses(4.0, server="b")
    assert writer.contact.is_unbroken("a")
    assert not writer.contact.is_unbroken("c")
