"""A model's socket that is cut in every phase of a conversation, through a whole cluster of processes.

Each phase has a conversation of its own, all at once. It learns a fact from a tool, is cut in the phase, and is asked
for all that it knows then: the simulated model knows what it was told, and nothing else.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from support.callers import calling, transcript
from support.cluster import ClusterUnderTest
from support.phase_desk import PHASES, place
from support.phase_proxy import OPENING, Cut, PhaseProxy
from support.phase_talk import WITHIN, Talk
from support.phased import phased_cluster
from support.waiting import wait_until
from voicebus.engine.state import State
from voicebus.engine.transcript import NOT_TRANSCRIBED
from voicebus_services.model_simulator import tape

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("lost-link-phases")]

ANSWER: Final = "One two three four five."
SAY: Final = f"[[say: {ANSWER}]]"
HALF_A_SECOND: Final = 24_000  # bytes


Turn = Callable[[Talk], Awaitable[None]]


@dataclass(frozen=True)
class Row:
    """One phase: the session's state in it, and the turn in which the `cuts` are made (by itself where none).

    `loses`: how many sockets at least. `begins`: they are lost before anything was said. `wordless`: with the socket
    the words of the turn are lost that the model was to tell, and the next one is told its sound.
    """

    state: State
    turn: Turn
    cuts: tuple[Cut, ...] = ()
    loses: int = 1
    begins: bool = False
    wordless: bool = False


async def typed(talk: Talk) -> None:
    await talk.types(SAY)
    await talk.hears(ANSWER)


async def spoken(talk: Talk) -> None:
    await talk.says(SAY)
    await talk.hears(ANSWER)


async def called(talk: Talk) -> None:
    await talk.notes("note", "second")
    await talk.hears_noted("second")


async def handed_over(talk: Talk) -> None:
    await talk.types("[[call: transfer_to_colleague {}]][[next]][[say: Colleague here.]]")
    talk.known_too.append('{"assistant": "colleague"}')
    await talk.hears("Colleague here.")
    assert [event["to_agent"] for event in talk.caller.of("handoff")] == ["colleague"]


async def nothing(_: Talk) -> None:
    """Only the turn before and the one after."""


async def idle(talk: Talk) -> None:
    await talk.cut()
    await talk.until("model_reconnected")


async def pushed_to_talk(talk: Talk) -> None:
    await talk.pushes(SAY)
    await talk.hears(ANSWER)


async def tool_running(talk: Talk) -> None:
    await talk.notes("ponder", "second")
    await talk.there("pondering", talk.fact("second"))
    await talk.cut()
    await talk.until("model_reconnected")
    place("go", talk.fact("second")).touch()
    await talk.hears_noted("second")


async def tool_running_and_speech(talk: Talk) -> None:
    await talk.notes("ponder", "second")
    await talk.there("pondering", talk.fact("second"))
    talk.sockets.arm(Cut("input_audio_buffer.speech_started"))
    await talk.says(SAY)
    await talk.is_cut()
    await talk.until("model_reconnected")
    await talk.hears(ANSWER)
    place("go", talk.fact("second")).touch()
    await talk.hears_noted("second")


async def one_of_two_done(talk: Talk) -> None:
    first, second = talk.fact("second"), talk.fact("third")
    talk.noted += [first, second]
    await talk.types(f'[[call: note {{"fact": "{first}"}}]][[call: ponder {{"fact": "{second}"}}]]')
    await talk.there("pondering", second)
    await talk.until("tool_end", 2)
    await talk.cut()
    await talk.until("model_reconnected")
    place("go", second).touch()
    await talk.hears_noted("second", "third")


async def approval(talk: Talk) -> None:
    await talk.notes("confirm", "second")
    call = (await talk.until("tool_approval_required"))["call_id"]
    await talk.cut()
    await talk.until("model_reconnected")
    await talk.caller.conversation.command("approve", call_id=call)
    await talk.hears_noted("second")


async def approval_meanwhile(talk: Talk) -> None:
    await talk.notes("confirm", "second")
    call = (await talk.until("tool_approval_required"))["call_id"]
    talk.sockets.arm(Cut(OPENING, socket=1), Cut(OPENING, socket=2))
    await talk.cut()
    await talk.caller.conversation.command("approve", call_id=call)
    await talk.hears_noted("second")


async def interrupted(talk: Talk) -> None:
    """The model thinks, and the person wants no answer."""
    await talk.types("[[delay: 60s]][[say: Never.]]")
    await talk.until("agent_start", 3)
    await talk.caller.conversation.command("interrupt")
    await talk.is_cut()
    await talk.until("model_reconnected")
    await typed(talk)


async def spoken_into(talk: Talk) -> None:
    """A long answer sounds, and the person speaks."""
    talk.said.append("[[say: " + "This is long. " * 20 + "]]")
    await talk.caller.types(talk.said[-1])
    await talk.until("audio_end", 2)
    talk.said.append("[[say: Yes?]]")
    sound = tape.record(talk.said[-1]) + bytes(2 * HALF_A_SECOND)
    await talk.sounds(sound[:HALF_A_SECOND])
    await talk.is_cut()
    await talk.sounds(sound[HALF_A_SECOND:])
    await talk.hears("Yes?")


async def input_held(talk: Talk) -> None:
    await talk.says("[[say: My patience ends.]]")
    await talk.there("judging", talk.phase)
    await talk.cut()
    await talk.until("model_reconnected")
    place("go", talk.phase).touch()
    await talk.hears("My patience ends.")


async def output_held(talk: Talk) -> None:
    await talk.types("[[say: My patience ends.]]")
    await talk.there("judging", talk.phase)
    await talk.cut()
    await talk.until("model_reconnected")
    place("go", talk.phase).touch()
    await talk.hears("My patience ends.")


async def moved(talk: Talk) -> None:
    """The first socket says that it ends soon; the second one is opened while a tool runs."""
    await talk.until("model_reconnected")


async def moving_with_a_tool(talk: Talk) -> None:
    await talk.notes("ponder", "second")
    await talk.there("pondering", talk.fact("second"))
    await wait_until(
        lambda: len(talk.sockets.ways) > 1 and talk.sockets.ways[1].seen["model", "session.updated"] == 2,
        description="a second socket that is told everything",
        timeout=WITHIN,
    )
    talk.sockets.ways[0].cut()
    await talk.until("model_reconnected")
    place("go", talk.fact("second")).touch()
    await talk.hears_noted("second")


async def message_meanwhile(talk: Talk) -> None:
    talk.sockets.arm(Cut(OPENING, socket=1), Cut(OPENING, socket=2))
    await talk.cut()
    await typed(talk)


async def speech_meanwhile(talk: Talk) -> None:
    talk.sockets.arm(Cut(OPENING, socket=1), Cut(OPENING, socket=2))
    await talk.cut()
    await spoken(talk)


async def ended_meanwhile(talk: Talk) -> None:
    talk.sockets.arm(Cut(OPENING, socket=1), Cut(OPENING, socket=2))
    await talk.cut()


def model(event: str, number: int = 1, *, socket: int = 0, passes: bool = True) -> Cut:
    return Cut(event, "model", number, socket, passes)


def gateway(event: str, number: int = 1, *, socket: int = 0, passes: bool = True) -> Cut:
    return Cut(event, "gateway", number, socket, passes)


def live(turn: Turn, *cuts: Cut, loses: int = 1, wordless: bool = False) -> Row:
    return Row(State.LIVE, turn, cuts, loses, wordless=wordless)


def moving(cut: Cut) -> Row:
    """Another socket is lost than the one in use, to which the conversation was about to move."""
    return Row(State.LIVE, moved, (cut,), begins=True)


CREATE, RESPOND, UPDATE = "conversation.item.create", "response.create", "session.update"
TRUNCATE, COMMIT, CANCEL = "conversation.item.truncate", "input_audio_buffer.commit", "response.cancel"
HEARD = "conversation.item.input_audio_transcription.completed"
ARGUMENTS = "response.function_call_arguments"
TEXT = "response.output_text"
MID_TEXT: Final = model(TEXT + ".delta", 2)
# A second socket is opened after 20 and, where it is lost within 6 s, once more: less is too little on a busy machine.
LIVES_S: Final = 30.0

ROWS: Final[Mapping[str, Row]] = {
    "first socket not answered": Row(State.CONFIGURING, nothing, (model(OPENING, socket=1),), begins=True),
    "first settings not sent": Row(State.CONFIGURING, nothing, (gateway(UPDATE, socket=1, passes=False),), begins=True),
    "first settings on their way": Row(State.CONFIGURING, nothing, (gateway(UPDATE, socket=1),), begins=True),
    "first settings not confirmed": Row(
        State.CONFIGURING, nothing, (model("session.updated", socket=1, passes=False),), begins=True
    ),
    "idle": live(idle),
    "speaking": live(spoken, model("input_audio_buffer.speech_started")),
    "speech stopped": live(spoken, model("input_audio_buffer.speech_stopped")),
    "speech committed": live(spoken, model("input_audio_buffer.committed"), wordless=True),
    "speech an item": live(spoken, model("conversation.item.done"), wordless=True),
    "speech not transcribed": live(spoken, model(HEARD, passes=False), wordless=True),
    "speech transcribed": live(spoken, model(HEARD)),
    "message not sent": live(typed, gateway(CREATE, passes=False)),
    "message on its way": live(typed, gateway(CREATE)),
    "message an item": live(typed, model("conversation.item.done")),
    "question not sent": live(typed, gateway(RESPOND, passes=False)),
    "question on its way": live(typed, gateway(RESPOND)),
    "response created": live(typed, model("response.created")),
    "answer begun": live(typed, model("response.content_part.added")),
    "in mid-text": live(typed, MID_TEXT),
    "text complete": live(typed, model(TEXT + ".done")),
    "answer complete": live(typed, model("response.output_item.done")),
    "response done": live(typed, model("response.done")),
    "in mid-audio": live(typed, model("response.output_audio.delta", 2)),
    "audio playing": live(typed, model("response.done")),
    "push-to-talk half way": live(pushed_to_talk, gateway("input_audio_buffer.append", 5)),
    "push-to-talk commit lost": live(pushed_to_talk, gateway(COMMIT, passes=False)),
    "push-to-talk commit on its way": live(pushed_to_talk, gateway(COMMIT)),
    "push-to-talk committed": live(pushed_to_talk, model("input_audio_buffer.committed"), wordless=True),
    "call begun": live(called, model("response.output_item.added")),
    "call in mid-arguments": live(called, model(ARGUMENTS + ".delta")),
    "call's arguments complete": live(called, model(ARGUMENTS + ".done")),
    "call complete": live(called, model("response.output_item.done")),
    "call's response done": live(called, model("response.done")),
    "tool running": live(tool_running),
    "tool running, person speaking": live(tool_running_and_speech),
    "one of two tools done": live(one_of_two_done),
    "approval pending": live(approval),
    "approval given meanwhile": live(approval_meanwhile, loses=3),
    "output not sent": live(called, gateway(CREATE, 2, passes=False)),
    "output on its way": live(called, gateway(CREATE, 2)),
    "output an item": live(called, model("conversation.item.done", 3)),
    "follow-up not sent": live(called, gateway(RESPOND, 2, passes=False)),
    "follow-up on its way": live(called, gateway(RESPOND, 2)),
    "follow-up created": live(called, model("response.created", 2)),
    "follow-up in mid-text": live(called, MID_TEXT),
    "handoff's settings not sent": live(handed_over, gateway(UPDATE, passes=False)),
    "handoff's settings on their way": live(handed_over, gateway(UPDATE)),
    "handoff's settings confirmed": live(handed_over, model("session.updated")),
    "cancel not sent": live(interrupted, gateway(CANCEL, passes=False)),
    "cancel on its way": live(interrupted, gateway(CANCEL)),
    "truncation not sent": live(spoken_into, gateway(TRUNCATE, passes=False)),
    "truncation on its way": live(spoken_into, gateway(TRUNCATE)),
    "truncated": live(spoken_into, model("conversation.item.truncated")),
    "input held": live(input_held),
    "output held": live(output_held),
    "output held as sound": live(output_held),
    "second socket not answered": moving(model(OPENING, socket=2)),
    "second socket being told": moving(model("conversation.item.added", 2, socket=2)),
    "second socket told": moving(model("session.updated", 2, socket=2)),
    "second socket ready": live(moving_with_a_tool),
    "second socket lost": moving(gateway(CREATE, socket=2, passes=False)),
    "next socket not answered": Row(
        State.RECONNECTING, typed, (MID_TEXT, model(OPENING, socket=1), model(OPENING, socket=2)), 3
    ),
    "message meanwhile": Row(State.RECONNECTING, message_meanwhile, loses=3),
    "speech meanwhile": Row(State.RECONNECTING, speech_meanwhile, loses=3),
    "next socket without settings": Row(State.REPLAYING, typed, (MID_TEXT, model("session.created", socket=1)), 2),
    "replay not sent": Row(State.REPLAYING, typed, (MID_TEXT, gateway(CREATE, socket=1, passes=False)), 2),
    "replay on its way": Row(State.REPLAYING, typed, (MID_TEXT, gateway(CREATE, 3, socket=1)), 2),
    "replay in the middle": Row(State.REPLAYING, typed, (MID_TEXT, model("conversation.item.added", 2, socket=1)), 2),
    "replay not confirmed": Row(
        State.REPLAYING, typed, (MID_TEXT, model("session.updated", 2, socket=1, passes=False)), 2
    ),
    "ended meanwhile": Row(State.RECONNECTING, ended_meanwhile, loses=1),
    "ended": Row(State.CLOSED, nothing, loses=0),
}

MOVING: Final = {phase for phase in ROWS if phase.startswith("second socket")}


@dataclass(frozen=True)
class Held:
    """What came of a conversation."""

    talk: Talk
    archived: dict[str, Any]


async def hold(phase: str, cluster: ClusterUnderTest, proxy: PhaseProxy) -> Held:
    row, sockets = ROWS[phase], proxy.conversation(phase)
    if row.begins:
        sockets.arm(*row.cuts)
    if phase in MOVING:
        sockets.lives_s = LIVES_S
    async with calling(cluster.gateway.url, agent=phase) as caller:
        talk = Talk(phase, caller, sockets)
        if PHASES[phase] == "manual":
            talk.noted.append(talk.fact("first"))
            await talk.pushes(f'[[call: note {{"fact": "{talk.fact("first")}"}}]]')
        else:
            await talk.notes("note", "first")
        await talk.hears_noted("first")
        if not row.begins:
            sockets.arm(*row.cuts)
        await row.turn(talk)
        await talk.is_cut()
        if phase != "ended meanwhile":
            known = "; ".join([*(f"noted {fact}" for fact in talk.noted), *talk.known_too])
            await talk.types("[[say: I know {known}.]]")
            await talk.hears(f"I know {known}.")
        await caller.hangs_up()
        sockets.cut()
        archived = await transcript(cluster.archiver.url, caller.session, timeout=WITHIN)
    return Held(talk, archived)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, Held | BaseException]]:
    """All conversations, or why one could not be held."""
    folder = tmp_path_factory.mktemp("phases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASE_DESK", str(folder))
        async with phased_cluster("support.phase_desk", redis_url, folder, guardrail_timeout=60) as (cluster, proxy):
            outcomes = await asyncio.gather(*(hold(phase, cluster, proxy) for phase in ROWS), return_exceptions=True)
        yield dict(zip(ROWS, outcomes, strict=True))


@pytest.mark.parametrize("phase", list(ROWS))
def test_a_turn_is_answered_and_archived_once_whose_socket_is_cut(
    phase: str, held: Mapping[str, Held | BaseException]
) -> None:
    outcome = held[phase]
    if isinstance(outcome, BaseException):
        raise outcome
    talk, archived = outcome.talk, outcome.archived
    errors = [event["code"] for event in talk.caller.of("error")]
    assert errors == []
    assert archived["end_reason"] == "ended"
    assert archived["gaps"] == []
    messages = [item for item in archived["items"] if item["type"] == "message"]
    kept_back = {event["item_id"] for event in talk.caller.of("item_recorded") if event["withheld"]}
    shown = [(item["role"], "" if item["item_id"] in kept_back else item["text"]) for item in messages]
    assert shown == talk.caller.lines()
    assert max(Counter(item["item_id"] for item in messages).values()) == 1
    said = [NOT_TRANSCRIBED if text == SAY and ROWS[phase].wordless else text for text in talk.said]
    assert [item["text"] for item in messages if item["role"] == "user"] == said
    whole = [item["text"] for item in messages if item["role"] == "assistant" and not item["truncated"]]
    assert whole == talk.answers
    calls = [item for item in archived["items"] if item["type"] == "tool_call"]
    assert sorted(item["output"] for item in calls if item["tool"] != "transfer_to_colleague") == sorted(
        f"noted {fact}" for fact in talk.noted
    )
    for fact in talk.noted:
        assert place("effects of", fact).read_text() == "one\n"
    assert len(talk.caller.of("model_reconnecting")) >= ROWS[phase].loses


def test_each_state_of_a_session_has_phases() -> None:
    assert {row.state for row in ROWS.values()} == set(State)
    assert list(ROWS) == list(PHASES)
