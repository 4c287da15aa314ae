"""The window of guardrails that hold: what of a part may be known before all of it was judged."""

import pytest

from support.talk import Talk, agent
from voicebus.contracts.guardrails import GuardrailResult
from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec, GuardrailMode, GuardrailSpec
from voicebus.engine.inputs import Interrupt, ModelAudio
from voicebus.engine.outputs import DispatchCheck, ForwardAudio, Observe
from voicebus.engine.window import Pace, Window

RULE = GuardrailSpec("rude", mode=GuardrailMode.HOLD, debounce=1, hold_window_ms=500)


def heard(talk: Talk) -> int:
    return len(talk.of(ForwardAudio))


def let_pass(talk: Talk) -> None:
    talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=False))


def asked(*guardrails: GuardrailSpec) -> Talk:
    talk = Talk(agent(guardrails=guardrails or (RULE,))).asked()
    talk.item_begins()
    return talk


def test_audio_is_heard_once_the_text_of_the_window_behind_it_has_passed() -> None:
    talk = asked()
    talk.says("Good morning to you ")
    talk.sounds(300)
    let_pass(talk)
    talk.sounds(300)
    assert heard(talk) == 0  # 300 ms of later audio
    talk.says("all, ")
    talk.sounds(300)
    assert heard(talk) == 0  # the window has text that nobody has judged
    let_pass(talk)
    assert heard(talk) == 1


@pytest.mark.parametrize("half", ["vau", "vau\u200b", "vau\u0308", "vau\u034f", "vau\u3164"])
def test_a_word_that_its_deltas_cut_in_two_is_judged_whole_before_any_of_it_is_told(half: str) -> None:
    talk = asked()
    talk.says(f"Good morning, the {half}")
    talk.sounds(100)
    talk.sounds(600)
    let_pass(talk)
    assert heard(talk) == 0
    talk.says("lted ")
    let_pass(talk)
    assert heard(talk) == 1


def test_audio_without_a_word_is_held_whole_and_counted() -> None:
    talk = asked()
    talk.sounds(300)
    talk.sounds(300)
    assert [one for one in talk.of(Observe) if one.name == "hold_window_broken"] == [
        Observe("hold_window_broken", 1.0, {})
    ]
    talk.says("Good morning to you all. ")
    let_pass(talk)
    talk.sounds(900)
    assert heard(talk) == 0
    talk.said("Good morning to you all. ")
    let_pass(talk)
    assert heard(talk) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("One two ", False),
        ("One two three four five six seven", True),
        ("你好你", False),
        ("你好你好你好你好你好", True),
        ("4 5 ", False),
    ],
)
def test_while_the_text_stands_still_nothing_is_told_unless_it_is_ahead(text: str, told: bool) -> None:
    window = Window(500)
    window.said(text)
    assert not any(map(window.sounded, [100] * 10))
    assert window.lets(100, text + " ", len(text) + 1) == told


def test_a_pause_is_over_with_the_next_word_and_breaks_nothing() -> None:
    window = Window(500)
    window.said("Good morning ")
    assert not any(map(window.sounded, [100] * 13))
    assert not window.lets(100, "Good morning ", 13)
    window.said("to you ")
    assert not window.sounded(100)
    assert window.lets(100, "Good morning to you ", 20)


@pytest.mark.parametrize("letter_ms", [60, 65, 75])
@pytest.mark.parametrize("late_ms", [520, 700, 1500])
def test_of_a_text_that_becomes_late_in_the_middle_nothing_is_told_that_has_not_come(
    late_ms: int, letter_ms: int
) -> None:
    window, text = Window(500), ""
    told = 0.0
    for at_ms in range(100, 12_000, 100):
        # From the fourth second on its words come late.
        end_ms = at_ms if at_ms <= 4000 else max(4000, at_ms - late_ms)
        more = "x" * 9 + " "
        while len(text) * letter_ms < end_ms:
            window.said(more)
            text += more
        window.sounded(100)
        before = told
        while window.lets(told + 100, text, len(text)):
            told += 100
        assert told <= len(text) * letter_ms, f"at {at_ms} ms"
        assert told <= max(0, at_ms - 500)
        assert told == before or not window.broken
    assert told >= 2000
    assert window.broken == ((late_ms, letter_ms) != (520, 65))


def says_in_step(window: Window) -> str:
    for _ in range(10):
        window.said("x" * 9 + " ")
        assert not any(map(window.sounded, [130] * 5))
    return "xxxxxxxxx " * 10


def test_a_text_that_goes_on_after_what_it_lacks_was_said_has_the_rest_held_whole() -> None:
    window = Window(500)
    text = says_in_step(window) + "yyyyy "
    assert not any(map(window.sounded, [100] * 11)), "there may be a pause, or the end"
    assert window.said("yyyyy ")
    assert window.broken
    assert not window.lets(100, text, len(text))
    assert not window.said("zzzzz "), "counted once"
    lag_ms = window.complete()
    assert lag_ms is not None
    assert not window.was_broken(lag_ms)


def test_a_late_text_of_a_part_that_is_stopped_before_it_goes_on_is_a_violation() -> None:
    late, in_step, paused = Window(500), Window(500), Window(500)
    for window in (late, in_step, paused):
        says_in_step(window)
    assert not any(map(late.sounded, [100] * 8))
    assert not any(map(in_step.sounded, [100] * 3))
    assert not any(paused.sounded(100, 0.0) for _ in range(20))
    assert (late.stops(), in_step.stops(), paused.stops()) == (True, False, False)
    assert not Window(500).stops()
    assert not Window(None).stops()


def test_a_late_part_that_the_user_interrupts_is_counted_once() -> None:
    talk = asked()
    for word in ("Good ", "morning ", "to all ", "of you ", "who are ", "here "):
        talk.says(word)
        talk.sounds(60 * len(word))
    for _ in range(10):
        talk.sounds(100)
    assert not talk.observed("hold_window_broken")
    talk.put(Interrupt())
    assert len(talk.observed("hold_window_broken")) == 1


def test_what_a_model_says_in_many_small_pieces_takes_no_more_memory() -> None:
    window, whole = Window(500), Window(500)
    text = "x" * 39 + " "
    for one in (window, whole):
        one.said(text)
    for _ in range(20_000):
        window.sounded(0.1)
    for _ in range(20):
        whole.sounded(100)
    assert len(window._heard) < 220
    told = [max(at for at in range(0, 2001, 20) if one.lets(at, text, len(text))) for one in (window, whole)]
    assert told[0] == pytest.approx(told[1], abs=100)


def test_a_pause_of_the_voice_is_no_late_text() -> None:
    window = Window(500)
    says_in_step(window)
    assert not any(window.sounded(100, 0.0) for _ in range(20))
    assert not window.said("yyyyy ")
    assert not window.broken


def test_a_text_that_stands_still_while_it_is_ahead_is_not_late() -> None:
    window = Window(500)
    window.said("x" * 200 + " ")
    assert not any(map(window.sounded, [100] * 80))
    assert not window.said("yyyyy ")
    assert not window.broken


def test_a_text_that_goes_on_after_a_pause_has_what_is_told_go_on() -> None:
    window, text = Window(500), "x" * 39 + " "
    window.said(text)
    assert not any(map(window.sounded, [100] * 26))
    assert not any(window.sounded(100, 0.0) for _ in range(14))
    assert not window.lets(3000, text, len(text))
    text += "y" * 59 + " "
    assert not window.said("y" * 59 + " ")
    assert not window.sounded(100)
    assert window.lets(3000, text, len(text))


@pytest.mark.parametrize("silent", [False, True])
def test_of_a_part_whose_text_is_late_the_rest_is_held_until_it_was_judged_whole(silent: bool) -> None:
    """Unless the voice has paused meanwhile."""

    def sounds(ms: int, *, loud: bool = True) -> None:
        samples = bytes((0, 64) if loud else (0, 0)) * (24 * ms)
        talk.put(ModelAudio("resp_1", "item_a", 0, 0, len(samples), samples))

    talk = asked()
    said = ""
    for word in ("Good ", "morning ", "to all ", "of you ", "who are ", "here "):
        said += word
        talk.says(word)
        sounds(60 * len(word))
        let_pass(talk)
    before = heard(talk)
    assert before
    for _ in range(12):
        sounds(100, loud=not silent)
    assert heard(talk) == before
    talk.says("today, ")
    for _ in range(6):
        sounds(100)
        let_pass(talk)
    assert (heard(talk) == before) is not silent
    assert len(talk.observed("hold_window_broken")) == (not silent)
    talk.said(f"{said}today, ")
    let_pass(talk)
    assert heard(talk) == 6 + 12 + 6


def test_how_fast_a_voice_speaks_is_learned_from_what_it_has_said() -> None:
    pace = Pace()
    first = Window(500, pace)
    first.said("x" * 100)
    first.sounded(10_000)
    first.complete()
    window = Window(500, pace)  # with a letter every 100 ms
    window.said("x" * 39 + " ")
    assert not any(map(window.sounded, [100] * 40)), "slower than slow speech, and in time"
    assert window.lets(2900, "x" * 39 + " ", 40)
    unheard = Window(500)
    unheard.said("x" * 39 + " ")
    list(map(unheard.sounded, [100] * 40))
    assert not unheard.lets(2900, "x" * 39 + " ", 40)


def test_a_part_that_nobody_can_have_spoken_tells_nothing_of_the_pace() -> None:
    pace = Pace()
    before = pace.usual
    pace.heard(200, 300)
    pace.heard(300_000, 300)
    assert pace.usual == before


def test_what_was_said_whole_ahead_of_its_sound_is_no_violation() -> None:
    window = Window(500)
    text = "x" * 150 + " "
    window.said(text)
    assert not any(map(window.sounded, [100] * 60))
    assert window.lets(5000, text, len(text))
    assert not any(map(window.sounded, [100] * 40))
    lag_ms = window.complete()
    assert lag_ms == 0
    assert not window.was_broken(lag_ms)


def test_a_transcript_that_falls_behind_slowly_is_late_in_the_end() -> None:
    window = Window(500)
    broken = []
    for _ in range(40):
        window.said("ab")  # half of what would be said
        broken.append(window.sounded(270))
    assert True in broken


def test_the_lag_is_how_far_the_text_came_behind_its_audio_at_most() -> None:
    window = Window(None)
    window.sounded(300)
    window.said("abcde")  # begins at 0
    window.sounded(700)
    window.said("fghij")  # begins at 500
    assert window.complete() == pytest.approx(500)
    assert Window(None).complete() is None


def test_what_was_heard_of_a_forbidden_answer_is_truncated_where_it_was_heard() -> None:
    talk = asked()
    talk.says("Good morning, ")
    talk.sounds(400)
    talk.says("you fools ")
    talk.sounds(600)
    talk.verdict(talk.of(DispatchCheck)[0].check_id, GuardrailResult(name="rude", tripped=False))
    assert heard(talk) == 0
    talk = asked()
    talk.says("Good morning, my dear friend ")
    let_pass(talk)
    talk.sounds(400)
    talk.sounds(600)
    assert heard(talk) == 1
    talk.says("and fool ")
    talk.now += 0.25
    talk.verdict(talk.of(DispatchCheck)[-1].check_id, GuardrailResult(name="rude", tripped=True))
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [250]
    talk.ends(status="cancelled")
    [line] = [line for line in talk.records(EventType.ITEM_RECORDED) if line.role == "assistant"]
    assert "fool" not in line.text
    assert line.heard_text == "Good morning, my"
    assert line.truncated


def test_the_user_who_interrupts_truncates_what_was_heard_and_nothing_else() -> None:
    talk = asked()
    talk.says("Good morning, my dear friend ")
    let_pass(talk)
    talk.sounds(400)
    talk.sounds(600)
    talk.now += 0.25
    talk.model("input_audio_buffer.speech_started", item_id="item_u", audio_start_ms=0)
    assert [event["audio_end_ms"] for event in talk.sent("conversation.item.truncate")] == [250]


def test_a_written_answer_has_no_window() -> None:
    talk = asked()
    talk.says("Good morning ", spoken=False)
    let_pass(talk)
    assert talk.emitted("transcript_delta") == []
    talk.said("Good morning ", spoken=False)
    let_pass(talk)
    assert len(talk.emitted("transcript_delta")) == 1


def test_the_widest_window_counts_and_none_where_one_guardrail_has_none() -> None:
    whole = GuardrailSpec("whole", mode=GuardrailMode.HOLD)
    wide = GuardrailSpec("wide", mode=GuardrailMode.HOLD, hold_window_ms=900)
    beside = GuardrailSpec("beside")
    assert AgentSpec("a", guardrails=(RULE, wide, beside)).hold_window_ms == 900
    assert AgentSpec("a", guardrails=(RULE, whole)).hold_window_ms is None
    assert AgentSpec("a", guardrails=(beside,)).hold_window_ms is None


def test_a_lag_that_shows_in_the_complete_part_alone_is_counted_then() -> None:
    talk = asked()
    for word in ("Good ", "day, ", "then ", "you, "):
        talk.says(word)
        talk.sounds(400)
        let_pass(talk)
    talk.says("all, and to everybody who is with you on this fine and early morning")
    let_pass(talk)
    assert not talk.observed("hold_window_broken")
    talk.said("Good day, then you, all, and to everybody who is with you on this fine and early morning")
    talk.item_ends("Good day, then you, all, and to everybody who is with you on this fine and early morning")
    assert len(talk.observed("hold_window_broken")) == 1
