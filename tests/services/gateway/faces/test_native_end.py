from voicebus.adapters.sockets import NORMAL, SERVICE_RESTART
from voicebus.contracts.journal import EventType, SessionEnded
from voicebus_services.gateway.faces.base import DRAINED
from voicebus_services.gateway.faces.native_end import TAKEN_OVER, Ending, LastRecord

RECORD = LastRecord(7, EventType.SESSION_ENDED, 1_000, SessionEnded(reason="ended", duration_ms=900))


def test_an_end_that_was_recorded_is_told_once_that_is_written() -> None:
    ending = Ending()
    ending.recorded(RECORD)
    ending.asked("e1")
    ending.asked(None)  # wants no answer
    assert ending.decide(NORMAL, "ended")
    assert ending.has_come
    assert ending.told is None
    assert ending.last_words() == (["e1"], RECORD)
    assert ending.told == (NORMAL, "ended")
    assert ending.last_words() == ([], None)


def test_an_end_without_a_record_waits_for_nothing() -> None:
    ending = Ending()
    assert not ending.decide(NORMAL, "hangup")
    assert ending.told == (NORMAL, "hangup")


def test_the_first_word_about_an_end_counts() -> None:
    ending = Ending()
    ending.recorded(RECORD)
    assert ending.decide(NORMAL, "ended")
    assert not ending.decide(1011, "error")
    assert ending.closing == (NORMAL, "ended")


def test_clients_of_a_gateway_that_stops_may_come_back_at_once() -> None:
    ending = Ending()
    ending.decide(NORMAL, DRAINED)
    assert ending.closing == (SERVICE_RESTART, DRAINED)


def test_a_session_that_goes_on_elsewhere_has_no_end_to_tell_of() -> None:
    ending = Ending()
    ending.recorded(RECORD)
    ending.decide(NORMAL, "ended")
    assert not ending.decide(*TAKEN_OVER)
    assert ending.told == TAKEN_OVER
    assert ending.last_words() == ([], None)
