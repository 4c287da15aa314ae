"""What a session remembers of things that never end, or that there are too many of: each has its own bound."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from support.reachable import reachable
from support.talk import Talk, agent, tool
from voicebus.engine.config import Face, GuardrailMode, GuardrailSpec
from voicebus.engine.guarding import _Watch
from voicebus.engine.playback import Part
from voicebus.engine.responses import Create, Response
from voicebus.engine.transcript import Line

MANY: Final = 300
"""More than any of these bounds, but for those that say so."""
MORE: Final = 5000
"""More than the ids that are remembered."""


def heard() -> Talk:
    return Talk(agent(tools=[tool()])).live()


def spoken_to() -> Talk:
    """A client of the protocol is there."""
    return Talk(agent(tools=[tool()]), face=Face.OPENAI).live()


def judged() -> Talk:
    return Talk(agent(guardrails=[GuardrailSpec("rude", debounce=5, mode=GuardrailMode.OBSERVE)])).live()


def answers(talk: Talk, number: int) -> None:
    """One response after another begins and ends."""
    talk.begins(f"resp_{number}", unasked=True)
    talk.says("Good day to you.", "item_a", f"resp_{number}")
    talk.ends(f"resp_{number}")


def begins_to_speak(talk: Talk, number: int) -> None:
    """The user begins to speak again and again, and nothing comes of it."""
    talk.model("input_audio_buffer.speech_started", item_id=f"speech_{number}", audio_start_ms=0)


def has_spoken(talk: Talk, number: int) -> None:
    """The user has spoken again and again, and had never begun."""
    talk.model("input_audio_buffer.speech_stopped", item_id=f"speech_{number}", audio_end_ms=9)


def tells_of_an_output(talk: Talk, number: int) -> None:
    item = {"id": f"output_{number}", "type": "function_call_output", "call_id": f"call_{number}", "output": "x"}
    talk.model("conversation.item.added", item=item)


def sounds(talk: Talk, number: int) -> None:
    """One long sound after another, far ahead of the listener."""
    if not number:
        talk.begins("resp_1", unasked=True)
    talk.sounds(60_000, f"item_{number}")


def keeps_silent(talk: Talk, number: int) -> None:
    """Create after create is never answered."""
    talk.asks()
    talk.timer("create")


def seems_to_refuse(talk: Talk, number: int) -> None:
    """Create after create seems to be refused, is sent again, and is answered once all the same."""
    talk.asks()
    talk.fails("conversation_already_has_active_response")
    talk.timer("retry")
    talk.begins(f"resp_{number}")
    talk.ends(f"resp_{number}")


def adds_what_was_said(talk: Talk, number: int) -> None:
    """Turn after turn whose words never come."""
    talk.user_item(f"item_{number}", [{"type": "input_audio", "transcript": None}])


def is_spoken_to_while_it_speaks(talk: Talk, number: int) -> None:
    """An answer is being heard, and turn after turn comes behind it."""
    if not number:
        talk.begins("resp_1", unasked=True)
        talk.speaks("A long story.", 3_600_000)
        talk.ends("resp_1")
    talk.user_item(f"item_{number}", [{"type": "input_text", "text": "Yes?"}])


def asks_aside(talk: Talk, number: int) -> None:
    """The client asks out of band again and again, and the model answers none of it."""
    talk.client("response.create", response={"conversation": "none", "metadata": {"number": str(number)}})


def says_something_else(talk: Talk, number: int) -> None:
    """Item after item in one answer without end."""
    if not number:
        talk.begins("resp_1", unasked=True)
    talk.says("Good day to you.", f"item_{number}")


def of(kind: type) -> Callable[[Iterable[Any]], int]:
    return lambda values: sum(isinstance(value, kind) for value in values)


def ids(prefix: str) -> Callable[[Iterable[Any]], int]:
    """Different texts that are an id, `PREFIX_NUMBER`."""
    fits = re.compile(rf"{prefix}_\d+").fullmatch
    return lambda values: len({value for value in values if isinstance(value, str) and fits(value)})


@pytest.mark.parametrize(
    ("talking", "happens", "times", "kept", "at_most"),
    [
        pytest.param(heard, answers, MANY, of(Response), 70, id="responses that have ended"),
        pytest.param(heard, begins_to_speak, MANY, ids("speech"), 20, id="when the user began to speak"),
        pytest.param(heard, has_spoken, MANY, ids("speech"), 20, id="when the user had spoken"),
        pytest.param(heard, tells_of_an_output, MORE, ids("output"), 4200, id="which item is the output of a call"),
        pytest.param(heard, sounds, MANY, of(Part), 70, id="sound that is to be heard"),
        pytest.param(heard, keeps_silent, MANY, of(Create), 40, id="creates that were given up"),
        pytest.param(heard, seems_to_refuse, MANY, of(Create), 140, id="creates that were sent twice"),
        pytest.param(heard, adds_what_was_said, MANY, of(Line), 70, id="lines that are not recorded yet"),
        pytest.param(heard, is_spoken_to_while_it_speaks, MANY, of(Line), 70, id="lines behind one that is heard"),
        pytest.param(spoken_to, asks_aside, MANY, of(Create), 40, id="creates out of band"),
        pytest.param(judged, answers, MANY, of(_Watch), 0, id="what is judged of a response that has ended"),
        pytest.param(judged, says_something_else, MANY, of(_Watch), 70, id="what is judged of one response"),
    ],
)
def test_only_so_much_is_remembered_of(
    talking: Callable[[], Talk],
    happens: Callable[[Talk, int], None],
    times: int,
    kept: Callable[[Iterable[Any]], int],
    at_most: int,
) -> None:
    talk = talking()
    for number in range(times):
        happens(talk, number)
        talk.all.clear()
        talk.inputs.clear()
    assert kept(reachable(talk.session)) <= at_most
