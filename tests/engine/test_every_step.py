"""Every error that a model is known to have, and the loss of its socket, before every single step of a conversation.

Each of the user's turns is answered once, with all that tools have said; no line is recorded twice, and none missing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from support.error_desk import CODES
from support.scripted_talk import ScriptedTalk
from voicebus.contracts.journal import EventType
from voicebus.engine.calls import Stage
from voicebus.engine.failures import FATAL_CODES
from voicebus.engine.inputs import LinkLost, ModelEvent
from voicebus.engine.parts import Parts
from voicebus.engine.state import State
from voicebus.engine.transcript import NOT_TRANSCRIBED

SCRIPTS: Final = {
    "talk": ("type hello", "speak and now", "push well then"),
    "tools": (
        "type note one",
        "type note two and three",
        "speak confirm four",
        "type weigh five",
        "type what is known",
    ),
    "handoff": ("type note one", "type transfer_to_other", "type note failure", "speak what is known"),
}
HELD: Final = ("type note one", "speak what is known")

Before = Callable[[ScriptedTalk, int], None]
FACTS: Final[Mapping[str, Callable[[Parts], bool]]] = {
    "idle": lambda p: p.is_idle,
    "the user speaks": lambda p: p.turns.speaking,
    "a turn waits for the model's own answer": lambda p: p.turns.awaited,
    "a response is asked for": lambda p: p.turns._outstanding is not None,
    "a response waits to be asked for": lambda p: bool(p.turns._waiting),
    "a response runs and has said nothing": lambda p: p.turns.responses.active is not None and not _said(p),
    "an answer is being said": lambda p: p.turns.responses.active is not None and bool(_said(p)),
    "words of speech are to come": lambda p: p.transcript.awaits_words,
    "outputs of a response are waited for": lambda p: p.calls.batches.is_any_open,
    "a guardrail holds an answer": lambda p: any(True for _ in p.holding.waiting()),
    "something is not confirmed": lambda p: not p.out.uplink.is_quiet,
    "settings are under way": lambda p: not p.settings.is_quiet,
}  # fmt: skip
"""What may be the case beside a session's state, and has to be met by some step."""


def _said(parts: Parts) -> str:
    active = parts.turns.responses.active
    return "" if active is None else active.said


def nothing(_: ScriptedTalk, step: int) -> None:
    """Leave the conversation alone."""


def at(number: int, do: Callable[[ScriptedTalk], None]) -> Before:
    return lambda held, step: do(held) if step == number else None


def drop(held: ScriptedTalk) -> None:
    if held.talk.session.state in (State.LIVE, State.REPLAYING, State.CONFIGURING):
        held.put(LinkLost("reset", close_code=1006))


def error(code: str) -> Callable[[ScriptedTalk], None]:
    """An error of nobody's, as far as it says."""
    details = {"type": "invalid_request_error", "code": code or None, "message": "It says so.", "event_id": None}
    return lambda held: held.put(ModelEvent({"type": "error", "error": details}))


def script(name: str) -> tuple[str, ...]:
    return HELD if name == "held" else SCRIPTS[name]


def hold(name: str, before: Before) -> ScriptedTalk:
    return ScriptedTalk(script(name), name="held" if name == "held" else "first", before=before).hold()


def lines(held: ScriptedTalk, role: str) -> list[str]:
    return [
        line.text for line in held.talk.records(EventType.ITEM_RECORDED) if line.role == role and not line.truncated
    ]


def check(held: ScriptedTalk, name: str, expected: list[str]) -> None:
    recorded = Counter(line.item_id for line in held.talk.records(EventType.ITEM_RECORDED))
    assert max(recorded.values(), default=1) == 1
    said = [turn.split(" ", 1)[1] for turn in script(name)]
    heard = lines(held, "user")
    # The words of speech may be lost with the socket that was to tell them.
    assert [text for text in heard if text != NOT_TRANSCRIBED] == [
        words for words, text in zip(said, heard, strict=True) if text != NOT_TRANSCRIBED
    ]
    assert lines(held, "assistant") == expected
    assert max(Counter(end.call_id for end in held.talk.records(EventType.TOOL_END)).values(), default=1) == 1
    assert len(held.talk.records(EventType.SESSION_ENDED)) == 1


NAMES: Final = (*SCRIPTS, "held")
WHOLE: Final = {name: hold(name, nothing) for name in NAMES}
EXPECTED: Final = {name: lines(held, "assistant") for name, held in WHOLE.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_that_nothing_disturbs_knows_all_that_tools_have_said(name: str) -> None:
    check(WHOLE[name], name, EXPECTED[name])
    assert WHOLE[name].talk.errors() == []
    assert "note" not in EXPECTED[name][-1] or "noted one" in EXPECTED[name][-1]


def each_step(
    name: str, do: Callable[[ScriptedTalk], None], judge: Callable[[ScriptedTalk, State], None], code: str | None = None
) -> None:
    """Hold the conversation as often as it has steps, and `do` it before another one each time.

    One of many codes has a fourth of the steps, another one the next fourth.
    """
    first, apart = (0, 1) if code is None else (sorted(CODES).index(code) % 4, 4)
    for step in range(first, WHOLE[name].steps, apart):
        met: list[State] = []

        def disturb(held: ScriptedTalk, met: list[State] = met) -> None:
            met.append(held.talk.session.state)
            do(held)

        held = hold(name, at(step, disturb))
        try:
            judge(held, met[0])
        except AssertionError as failure:
            raise AssertionError(f"step {step}: {failure}") from failure


@pytest.mark.parametrize("lose", [drop, error("session_expired")])
@pytest.mark.parametrize("name", NAMES)
def test_a_socket_that_is_lost_before_any_step_costs_no_turn(name: str, lose: Callable[[ScriptedTalk], None]) -> None:
    each_step(name, lose, lambda held, _: check(held, name, EXPECTED[name]))


@pytest.mark.parametrize("code", sorted({*CODES} - FATAL_CODES - {"session_expired"}))
@pytest.mark.parametrize("name", NAMES)
def test_an_error_before_any_step_costs_no_turn(name: str, code: str) -> None:
    def judge(held: ScriptedTalk, met: State) -> None:
        told = held.talk.errors()
        assert set(told) <= {code or "invalid_request_error"}
        if code == "cannot_update_voice" and met is State.CONFIGURING and told:
            # The session's first settings were refused, so that it has not begun.
            assert [end.reason for end in held.talk.records(EventType.SESSION_ENDED)] == ["error"]
            return
        check(held, name, EXPECTED[name])

    each_step(name, error(code), judge, code)


@pytest.mark.parametrize("code", sorted(FATAL_CODES))
@pytest.mark.parametrize("name", NAMES)
def test_an_error_that_nothing_mends_ends_the_session_once_and_says_why(name: str, code: str) -> None:
    def judge(held: ScriptedTalk, met: State) -> None:
        recorded = Counter(line.item_id for line in held.talk.records(EventType.ITEM_RECORDED))
        assert max(recorded.values(), default=1) == 1
        assert len(held.talk.records(EventType.SESSION_ENDED)) == 1
        if met is not State.CLOSED:
            assert held.talk.errors() == [code]

    each_step(name, error(code), judge, code)


@pytest.mark.parametrize("apart", range(3, 24, 4))
def test_twenty_sockets_that_are_lost_cost_no_turn(apart: int) -> None:
    """One after another, each so many steps after the last: each conversation loses them elsewhere."""
    turns = ("type note one", *("speak and now", "push well then", "type note two and three", "type tell me") * 20)
    lost: list[int] = []
    lived = 0

    def rotate(held: ScriptedTalk, step: int) -> None:
        nonlocal lived
        lived += held.talk.session.state is State.LIVE
        if len(lost) < 20 and lived >= 30 + apart:
            lost.append(step)
            lived = 0
            drop(held)

    held = ScriptedTalk(turns, before=rotate).hold()
    assert len(lost) == 20
    assert len(lines(held, "user")) == len(turns)
    answers = lines(held, "assistant")
    assert len(answers) == len(turns)
    assert all("noted one" in answer for answer in answers)
    assert all("noted one, noted three, noted two" in answer for answer in answers[4:])
    assert Counter(end.output for end in held.talk.records(EventType.TOOL_END))["noted one"] == 1


def test_every_state_stage_and_fact_is_met_by_a_step() -> None:
    met: set[object] = set()

    def look(held: ScriptedTalk, _: int) -> None:
        parts = held.talk.session._p
        met.add(held.talk.session.state)
        met.update(call.stage for call in parts.calls)
        met.update(name for name, holds in FACTS.items() if holds(parts))

    def looking(lost: int) -> Before:
        def before(held: ScriptedTalk, step: int) -> None:
            look(held, step)
            if step == lost:
                drop(held)

        return before

    for name in NAMES:
        for step in range(WHOLE[name].steps):
            hold(name, looking(step))
    met.add(State.CLOSED if all(held.is_over for held in WHOLE.values()) else "open")
    # A program's own tools are none of a gateway's.
    assert {*State, *Stage, *FACTS} - met == {Stage.ELSEWHERE}
