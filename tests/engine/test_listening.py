"""Nobody listens for a while: what counts as heard, and what is recorded when somebody does again."""

import pytest

from support.talk import Talk
from voicebus.contracts.journal import EventType
from voicebus.engine.inputs import End, Interrupt, ListenerBack, ListenerLeft, Playback, TimerFired
from voicebus.engine.outputs import SetTimer
from voicebus.engine.transcript import HEARD_TIMER


def test_time_in_which_nobody_listens_does_not_count_as_heard() -> None:
    talk = Talk().asked()
    talk.speaks("Good morning to you", 4000)
    talk.ends()
    talk.put(ListenerLeft(), after=1.0)
    talk.put(ListenerBack(2), after=60.0)
    talk.put(Interrupt(), after=0.5)
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [1500]


def test_what_begins_while_nobody_listens_is_heard_from_its_start_once_somebody_does() -> None:
    talk = Talk().asked()
    talk.put(ListenerLeft())
    talk.speaks("Good morning to you", 4000)
    talk.ends()
    talk.put(ListenerBack(2), after=60.0)
    talk.put(Interrupt(), after=1.0)
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [1000]


def test_an_interruption_while_nobody_listens_truncates_at_what_was_heard_before() -> None:
    talk = Talk().asked()
    talk.speaks("Good morning to you", 4000)
    talk.put(ListenerLeft(), after=1.0)
    talk.put(Interrupt(), after=30.0)
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [1000]


def test_reports_from_before_a_loss_stay_true_until_the_next_ones() -> None:
    talk = Talk().asked()
    talk.speaks("Good morning to you", 4000)
    talk.put(Playback("item_a", 0, 700.0), after=1.0)
    talk.put(ListenerLeft())
    talk.put(ListenerBack(2), after=60.0)
    talk.put(Playback("item_a", 0, 900.0), after=0.1)
    talk.put(Interrupt())
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [900]


def test_an_answer_is_recorded_as_heard_only_after_somebody_could_hear_it() -> None:
    talk = Talk().asked()
    talk.put(ListenerLeft())
    talk.speaks("Good morning", 2000)
    talk.ends()
    assert HEARD_TIMER not in talk.timers()
    talk.put(TimerFired("anything"), after=600.0)
    assert talk.lines() == []
    talk.put(ListenerBack(2))
    assert talk.timers()[HEARD_TIMER] == talk.now + 2.0
    talk.timer(HEARD_TIMER)
    assert talk.lines() == [("assistant", "Good morning", None, False)]


def test_leaving_takes_back_the_time_at_which_an_answer_would_have_been_heard() -> None:
    talk = Talk().asked()
    talk.speaks("Good morning", 2000)
    talk.ends()
    assert HEARD_TIMER in talk.timers()
    talk.put(ListenerLeft(), after=0.5)
    assert HEARD_TIMER not in talk.timers()
    back = talk.put(ListenerBack(2), after=100.0)
    assert [output.at - talk.now for output in talk.of(SetTimer, back) if output.key == HEARD_TIMER] == [1.5]


def test_a_session_that_ends_while_nobody_listens_records_what_was_heard_before() -> None:
    talk = Talk().asked()
    talk.speaks("one two three four", 4000)
    talk.ends()
    talk.put(ListenerLeft(), after=2.0)
    talk.put(End("hangup"), after=60.0)
    assert talk.lines()[0] == ("assistant", "one two three four", "one two", True)


def test_coming_back_is_recorded_and_coming_for_the_first_time_is_not() -> None:
    talk = Talk().live()
    talk.put(ListenerLeft())
    talk.put(ListenerBack())
    talk.put(ListenerLeft())
    talk.put(ListenerBack(1))
    talk.put(ListenerBack(3))
    resumed = talk.records(EventType.SESSION_RESUMED)
    assert [(record.agent, record.from_seq) for record in resumed] == [("helper", 1), ("helper", 3)]


@pytest.mark.parametrize(
    ("received_ms", "after", "away"),
    [(337, 1.5828882430871944, 91.64411941577873), (3293, 1.2983012037151602, 91.47360989495304)],
)
@pytest.mark.parametrize("reports", [False, True])
def test_an_answer_is_recorded_when_its_time_has_come_however_times_are_rounded(
    received_ms: int, after: float, away: float, reports: bool
) -> None:
    talk = Talk().asked()
    talk.speaks("Good morning", received_ms)
    talk.ends()
    if reports:
        talk.put(Playback("item_a", 0, 10.0))
    talk.put(ListenerLeft(), after=after)
    talk.put(ListenerBack(2), after=away)
    if HEARD_TIMER in talk.timers():
        talk.timer(HEARD_TIMER)
    assert HEARD_TIMER not in talk.timers()
    assert talk.lines() == [("assistant", "Good morning", None, False)]
