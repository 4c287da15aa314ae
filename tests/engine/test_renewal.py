"""Moving to a second socket before the model closes the first."""

from collections.abc import Sequence

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import Recovering
from voicebus.engine.inputs import ChangeSettings, LinkExpires, LinkLost, LinkOpened, SpareEvent, SpareLost, SpareOpened
from voicebus.engine.outputs import Dial, Output, ReleaseAudio, SendModel, SwitchLink
from voicebus.engine.renewal import RENEW_TIMER, SWITCH_TIMER
from voicebus.engine.state import RECONNECT_TIMER, State


def expiring(talk: Talk, after: float = 10.0) -> Talk:
    talk.put(LinkExpires(after))
    return talk


def spare_told(talk: Talk) -> list[Output]:
    """The second socket is open: what it is told."""
    assert talk.of(Dial, talk.timer(RENEW_TIMER)) == [Dial(0, spare=True)]
    return talk.put(SpareOpened())


def spare_confirms(talk: Talk, told: Sequence[Output]) -> list[Output]:
    for sent in talk.of(SendModel, told):
        assert sent.spare
        if sent.event["type"] == "session.update":
            talk.put(SpareEvent({"type": "session.updated", "session": sent.event["session"]}))
    return talk.last


def test_a_third_of_a_short_life_and_two_minutes_of_a_long_one_are_for_moving() -> None:
    talk = expiring(Talk().live(), 9.0)
    assert talk.timers()[RENEW_TIMER] == talk.now + 6.0
    assert talk.timers()[SWITCH_TIMER] == talk.now + 8.25
    expiring(talk, 3600.0)
    assert talk.timers()[RENEW_TIMER] == talk.now + 3480.0
    assert talk.timers()[SWITCH_TIMER] == talk.now + 3595.0


def test_the_second_socket_is_told_all_and_serves_at_once_where_it_is_quiet() -> None:
    talk = expiring(Talk(agent(tools=[tool()])).asked("Hello"))
    talk.confirms(talk.all)
    talk.ends()
    told = spare_told(talk)
    assert talk.told_again(told) == [("user", "Hello")]
    after = spare_confirms(talk, told)
    assert talk.of(SwitchLink, after)
    assert talk.of(ReleaseAudio, after) == [ReleaseAudio(whole=True)]
    assert talk.session.state is State.LIVE
    assert [record.cause for record in talk.records(EventType.MODEL_RECONNECTING)] == ["renewal"]
    assert len(talk.records(EventType.MODEL_RECONNECTED)) == 1
    assert not talk.sent("response.create", after)
    assert {RENEW_TIMER, SWITCH_TIMER}.isdisjoint(talk.timers())


def test_it_waits_for_the_end_of_an_answer_and_is_told_what_came_meanwhile() -> None:
    talk = expiring(Talk().asked("Hello"))
    talk.confirms(talk.all)
    told = spare_told(talk)
    spare_confirms(talk, told)
    assert not talk.of(SwitchLink)
    talk.item_begins()
    talk.says("Hi.", spoken=False)
    talk.item_ends("Hi.", spoken=False)
    after = talk.ends()
    assert talk.of(SwitchLink, after)
    assert talk.told_again(after) == [("assistant", "Hi.")]
    assert [sent.spare for sent in talk.of(SendModel, after)] == [False]


def test_settings_that_have_changed_meanwhile_are_told_as_well() -> None:
    talk = expiring(Talk().asked("Hello"))
    talk.confirms(talk.all)
    spare_confirms(talk, spare_told(talk))
    talk.model("session.updated", session={"instructions": "Be brief."})
    change = talk.put(ChangeSettings({"max_output_tokens": 5}))
    talk.model("session.updated", session=talk.sent("session.update", change)[0]["session"])
    after = talk.ends()
    assert talk.of(SwitchLink, after)
    assert talk.sent("session.update", after)[0]["session"]["max_output_tokens"] == 5


def test_a_deadline_forces_the_switch_and_what_is_cut_off_is_asked_for_again() -> None:
    talk = expiring(Talk().asked("Hello"))
    talk.confirms(talk.all)
    talk.item_begins()
    talk.says("Good", spoken=False)
    told = spare_told(talk)
    spare_confirms(talk, told)
    after = talk.timer(SWITCH_TIMER)
    assert talk.of(SwitchLink, after)
    assert ("assistant", "Good") in talk.told_again(told)
    assert len(talk.sent("response.create", after)) == 1


def test_a_first_socket_that_is_lost_gives_way_to_the_second_without_a_wait() -> None:
    talk = expiring(Talk().asked("Hello"))
    talk.confirms(talk.all)
    spare_confirms(talk, spare_told(talk))
    after = talk.loses_the_link()
    assert talk.of(SwitchLink, after)
    assert talk.session.state is State.LIVE
    assert len(talk.sent("response.create", after)) == 1


def test_a_second_socket_that_fails_is_tried_again_and_harms_nothing() -> None:
    talk = expiring(Talk().live(), 60.0)
    talk.timer(RENEW_TIMER)
    talk.put(SpareLost("refused"))
    assert talk.timers()[RENEW_TIMER] == talk.now + 2.0
    assert talk.session.state is State.LIVE
    assert not talk.errors()


def test_an_attached_call_is_warned_and_does_not_move() -> None:
    talk = expiring(Talk(recovering=Recovering.ATTACH).live(), 3600.0)
    assert talk.timers()[RENEW_TIMER] == talk.now + 3540.0
    talk.timer(RENEW_TIMER)
    assert talk.emitted("session_expiring", talk.last) == [{"ends_in_ms": 60_000}]
    assert not talk.of(Dial)


def test_an_end_that_is_past_or_at_once_is_not_prepared_for() -> None:
    talk = expiring(Talk().live(), 0.0)
    assert RENEW_TIMER not in talk.timers()


def test_a_second_socket_is_opened_when_the_first_has_been_told_everything() -> None:
    talk = Talk().asked("Hello")
    talk.confirms(talk.all)
    talk.loses_the_link()
    talk.timer(RECONNECT_TIMER)
    told = talk.put(LinkOpened())
    expiring(talk)
    assert not talk.of(Dial, talk.timer(RENEW_TIMER)), "it could not be told the rest"
    talk.confirms(told)
    assert talk.session.state is State.LIVE
    assert talk.of(Dial)[-1:] == [Dial(0, spare=True)]
    assert talk.told_again(talk.put(SpareOpened())) == [("user", "Hello")]


def renewed(talk: Talk, after: float) -> bool:
    """Whether a socket that says it ends in `after` s is left before its end."""
    expiring(talk, after)
    if RENEW_TIMER not in talk.timers():
        return False
    spare_confirms(talk, spare_told(talk))
    return bool(talk.of(SwitchLink, talk.last))


def test_sockets_that_seem_to_end_at_once_are_not_left_for_ever() -> None:
    talk = Talk().live()
    assert [renewed(talk, 3.0) for _ in range(8)] == [True] * 5 + [False] * 3
    talk.put(LinkLost("reset"), after=3000.0)
    talk.reconnects()
    assert not renewed(talk, 3.0), "the last one lived on: clocks differ"
    assert renewed(talk, 3600.0)


def test_short_lives_that_are_true_are_foreseen_again() -> None:
    talk = Talk().live()
    assert [renewed(talk, 10.0) for _ in range(6)] == [True] * 5 + [False]
    talk.put(LinkLost("expired", "session_expired"), after=10.0)
    talk.reconnects()
    assert [renewed(talk, 10.0) for _ in range(8)] == [True] * 8


def test_a_second_socket_that_takes_over_serves_at_the_address_where_it_was_dialled() -> None:
    talk = Talk(models=("gpt-realtime", "other")).live()
    talk.loses_the_link(code="insufficient_quota", fatal=True)
    talk.reconnects()
    expiring(talk.asked("Hello"))
    talk.timer(RENEW_TIMER)
    spare_confirms(talk, talk.put(SpareOpened()))
    after = talk.loses_the_link()
    assert talk.of(SwitchLink, after)
    expiring(talk)
    talk.timer(RENEW_TIMER)
    assert [dial.address for dial in talk.of(Dial)] == [1, 1, 1]


def test_a_second_socket_that_does_not_take_the_settings_is_not_moved_to() -> None:
    talk = expiring(Talk().asked())
    talk.confirms(talk.all)
    talk.ends()
    for sent in talk.of(SendModel, spare_told(talk)):
        if sent.event["type"] == "session.update":
            error = {"type": "invalid_request_error", "code": "x", "message": "No.", "event_id": sent.event["event_id"]}
            talk.put(SpareEvent({"type": "error", "error": error}))
    assert not talk.of(SwitchLink)
    assert talk.session.state is State.LIVE
