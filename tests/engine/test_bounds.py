"""What a session remembers of things that never end, or that there are too many of: each has its own bound."""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from support.reachable import reachable
from support.talk import Talk, agent, tool
from voicebus.engine import client_view
from voicebus.engine.client_chain import Chain
from voicebus.engine.client_settings import _Pending
from voicebus.engine.config import Face, GuardrailMode, GuardrailSpec
from voicebus.engine.guarding import _Watch
from voicebus.engine.inputs import CommitAudio, Interrupt, SendMessage, SendRaw, ToolsChanged
from voicebus.engine.playback import Part
from voicebus.engine.responses import Create, Response
from voicebus.engine.settings import Update
from voicebus.engine.transcript import Line
from voicebus.engine.unfinished import _Open
from voicebus.engine.window import Window

MANY: Final = 300
"""More than any of these bounds, but for those that say so."""
MORE: Final = 5000
"""More than the ids that are remembered, or the items of one answer."""


def heard() -> Talk:
    return Talk(agent(tools=[tool()])).live()


def spoken_to() -> Talk:
    """A client of the protocol is there."""
    return Talk(agent(tools=[tool()]), face=Face.OPENAI).live()


def judged() -> Talk:
    return Talk(agent(guardrails=[GuardrailSpec("rude", debounce=5, mode=GuardrailMode.OBSERVE)])).live()


def held() -> Talk:
    rule = GuardrailSpec("rude", debounce=-1, mode=GuardrailMode.HOLD, hold_window_ms=500)
    return Talk(agent(guardrails=[rule])).live()


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


def asks_aside_without_a_socket(talk: Talk, number: int) -> None:
    """As before, while the model's socket is lost."""
    if not number:
        talk.loses_the_link()
    asks_aside(talk, number)


def begins_aside(talk: Talk, number: int) -> None:
    """The model begins what the client asks for out of band, and ends none of it."""
    asks_aside(talk, number)
    talk.begins(f"resp_{number}", conversation_id=None)


def marked(number: int) -> dict[str, Any]:
    return {"id": f"item_{number}", "type": "message", "role": "assistant", "content": [], "more": f"mark_{number}"}


def makes_item_after_item(talk: Talk, number: int) -> None:
    """One answer to the client has items without end."""
    if not number:
        talk.client("response.create")
        talk.begins()
    item = marked(number)
    talk.model("response.output_item.done", response_id="resp_1", output_index=number, item=item)


def calls_without_end(talk: Talk, number: int) -> None:
    """Each answer calls a tool again, so that to the client it is the same one all the time."""
    if not number:
        talk.client("response.create")
        talk.begins("resp_0")
    response = f"resp_{number}"
    talk.calls(call=f"call_{number}", response=response)
    talk.ends(response, output=[marked(number)])
    talk.result(call=f"call_{number}")
    talk.begins(f"resp_{number + 1}")


def adds_an_item(talk: Talk, number: int) -> None:
    item = {"id": f"item_{number}", "type": "message", "role": "user", "content": []}
    talk.model("conversation.item.added", item=item)


def is_set_anew(talk: Talk, number: int) -> None:
    """Settings upon settings that the model does not confirm."""
    audio = {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 100 + number}}}
    talk.client("session.update", session={"type": "realtime", "audio": audio})


def commits_by_name(talk: Talk, number: int) -> None:
    """Turn after turn is ended by hand, in a moment, and the model tells nothing of any."""
    talk.put(CommitAudio(given=f"given_{number}"))


def says_what_nobody_confirms(talk: Talk, number: int) -> None:
    talk.put(SendMessage([{"type": "input_text", "text": f"note_{number}"}]))


def adds_what_is_not_shown(talk: Talk, number: int) -> None:
    """A program puts in item after item that no history shows."""
    item = {"id": f"aside_{number}", "type": "function_call_output", "call_id": f"call_{number}", "output": "x"}
    talk.put(SendRaw({"type": "conversation.item.create", "item": item}))
    talk.model("conversation.item.added", item=item)


def adds_much_that_is_not_shown(talk: Talk, number: int) -> None:
    output = f"{number:05}" * 20_000
    item = {"id": f"aside_{number}", "type": "function_call_output", "call_id": f"call_{number}", "output": output}
    talk.put(SendRaw({"type": "conversation.item.create", "item": item}))
    talk.model("conversation.item.added", item={**item, "output": ""})


def begins_what_it_never_ends(talk: Talk, number: int) -> None:
    """Item after item of one answer begins."""
    if not number:
        talk.begins("resp_1", unasked=True)
    item = {**marked(number), "status": "in_progress"}
    talk.model("response.output_item.added", response_id="resp_1", output_index=0, item=item)


def begins_and_goes_on_to_the_next(talk: Talk, number: int) -> None:
    """Answer after answer begins to say something, and none of them ends."""
    talk.begins(f"resp_{number}", unasked=True)
    talk.item_begins(f"item_{number}", f"resp_{number}")


def is_stopped(talk: Talk, number: int) -> None:
    """Answer after answer is stopped after its first words."""
    response, item = f"resp_{number}", f"item_{number}"
    talk.begins(response, unasked=True)
    talk.item_begins(item, response)
    talk.says(f"note_{number}", item, response, spoken=False)
    talk.put(Interrupt())
    talk.item_ends(f"note_{number} and more", item, response, spoken=False)
    talk.ends(response, status="cancelled")


def asks_again_and_again(talk: Talk, number: int) -> None:
    """A program asks for answer after answer, and the model gives none."""
    talk.put(SendRaw({"type": "response.create"}))


def talks_on(talk: Talk, number: int) -> None:
    """One text without end."""
    if not number:
        talk.begins("resp_1", unasked=True)
        talk.item_begins()
    talk.says(f"{number:04}" * 250)


def says_in_parts(talk: Talk, number: int) -> None:
    """One item has part after part."""
    if not number:
        talk.begins("resp_1", unasked=True)
        talk.item_begins()
    where: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_a", "output_index": 0}
    talk.model("response.output_text.delta", content_index=number, delta=f"note_{number}", **where)


def changes_its_tools(talk: Talk, number: int) -> None:
    """The tools of agents that are not in charge change."""
    talk.put(ToolsChanged(instead_of=1000 + number, agent=agent(f"agent_{number}")))


def hears_on(talk: Talk, number: int) -> None:
    """The user talks on and on, and the model tells what it has heard so far."""
    kind = "conversation.item.input_audio_transcription.delta"
    talk.model(kind, item_id="item_u", content_index=0, delta="x" * 1000)


def is_told_much(talk: Talk, number: int) -> None:
    """While an answer is being heard, so that it waits."""
    talk.begins("resp_1", unasked=True)
    talk.speaks("A long story.", 3_600_000)
    talk.user_item("item_u", [{"type": "input_text", "text": "x" * 300_000}])


def has_said_much(talk: Talk, number: int) -> None:
    """The user's words come, while an answer is being heard before them."""
    talk.begins("resp_1", unasked=True)
    talk.speaks("A long story.", 3_600_000)
    talk.user_item("item_u", [{"type": "input_audio", "transcript": None}])
    talk.transcript("x" * 300_000)


def writes_before_it_speaks(talk: Talk, number: int) -> None:
    """An answer has delta after delta of its words, and no sound."""
    if not number:
        talk.begins("resp_1", unasked=True)
    talk.says("a")


def characters(values: Iterable[Any]) -> int:
    """Of all texts together."""
    return sum(len(value) for value in values if isinstance(value, str))


def texts(values: Iterable[Any]) -> int:
    """Items of the response that is known to have most."""
    return max(len(value.texts) for value in values if isinstance(value, Response))


def longest(values: Iterable[Any]) -> int:
    """The characters of the longest text."""
    return max(len(value) for value in values if isinstance(value, str))


def longest_line(values: Iterable[Any]) -> int:
    return max((len(value.text) for value in values if isinstance(value, Line)), default=0)


def places(values: Iterable[Any]) -> int:
    """Places of a text in its audio."""
    return max(len(value._places) for value in values if isinstance(value, Window))


def of(kind: type) -> Callable[[Iterable[Any]], int]:
    return lambda values: sum(isinstance(value, kind) for value in values)


def ids(prefix: str) -> Callable[[Iterable[Any]], int]:
    """Different texts that are an id, `PREFIX_NUMBER`."""
    fits = re.compile(rf"{prefix}_\d+").fullmatch
    return lambda values: len({value for value in values if isinstance(value, str) and fits(value)})


def ids_and_numbers(values: Iterable[Any]) -> int:
    """Different pairs of an id and a number."""
    pairs = (value for value in values if isinstance(value, tuple) and len(value) == 2)
    return sum(isinstance(first, str) and isinstance(second, int) for first, second in pairs)


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
        pytest.param(spoken_to, asks_aside_without_a_socket, MANY, of(Create), 40, id="creates that wait for a socket"),
        pytest.param(spoken_to, begins_aside, MANY, of(Chain), 257, id="answers out of band"),
        pytest.param(spoken_to, makes_item_after_item, MANY, ids("mark"), 130, id="items of a client's answer"),
        pytest.param(spoken_to, makes_item_after_item, MORE, ids_and_numbers, 1100, id="places in a client's answer"),
        pytest.param(spoken_to, calls_without_end, 200, ids("mark"), 130, id="items of an answer that calls tools"),
        pytest.param(spoken_to, adds_an_item, MORE, ids("item"), 4200, id="what stands where in a conversation"),
        pytest.param(spoken_to, is_set_anew, MANY, of(Update), 64, id="settings that are not confirmed"),
        pytest.param(spoken_to, is_set_anew, MANY, of(_Pending), 64, id="settings that a client has made"),
        pytest.param(heard, commits_by_name, MANY, ids("given"), 70, id="turns that may have to be said again"),
        pytest.param(heard, says_what_nobody_confirms, MANY, ids("note"), 260, id="what the model has not confirmed"),
        pytest.param(heard, adds_what_is_not_shown, MORE, ids("aside"), 4200, id="items that no history shows"),
        pytest.param(heard, adds_much_that_is_not_shown, MANY, characters, 17_000_000, id="texts no history shows"),
        pytest.param(heard, begins_what_it_never_ends, MANY, ids("mark"), 70, id="items that have begun"),
        pytest.param(heard, begins_what_it_never_ends, MORE, texts, 1024, id="items of an answer, also without a text"),
        pytest.param(heard, begins_and_goes_on_to_the_next, MANY, of(_Open), 64, id="answers that have begun"),
        pytest.param(heard, is_stopped, MORE, ids("note"), 4200, id="what was heard of answers that were stopped"),
        pytest.param(heard, changes_its_tools, MANY, ids("agent"), 70, id="tools of agents that may take over"),
        pytest.param(heard, asks_again_and_again, MANY, of(Create), 40, id="creates that wait for their turn"),
        pytest.param(heard, says_in_parts, MANY, ids("note"), 70, id="parts of an item"),
        pytest.param(heard, talks_on, MORE, characters, 1_000_000, id="a text without end"),
        pytest.param(heard, hears_on, MANY, longest, 50_000, id="words that may still change"),
        pytest.param(heard, is_told_much, 1, longest_line, 100_000, id="a text that waits for its turn in the record"),
        pytest.param(heard, has_said_much, 1, longest_line, 100_000, id="words that wait for their turn in the record"),
        pytest.param(held, writes_before_it_speaks, MORE, places, 4096, id="where a text is in its audio"),
        pytest.param(judged, answers, MANY, of(_Watch), 0, id="what is judged of a response that has ended"),
        pytest.param(judged, says_something_else, MORE, of(_Watch), 1100, id="what is judged of one response"),
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


def test_only_so_much_is_remembered_of_answers_to_a_client_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_view, "REMEMBERED", 64)
    talk = spoken_to()
    for number in range(MANY):
        talk.client("response.create")
        talk.begins(f"first_{number}")
        talk.calls(call=f"call_{number}", response=f"first_{number}")
        talk.ends(f"first_{number}")
        talk.result(call=f"call_{number}")
        talk.begins(f"follow_{number}")
        talk.ends(f"follow_{number}")
        talk.all.clear()
        talk.inputs.clear()
    assert ids("follow")(reachable(talk.session)) <= 140
