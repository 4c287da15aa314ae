"""Every error that a model is known to have, in each way in which it may tell of it: what the archive has of the turn.

A turn is answered once, or the session says what was wrong with it; nothing is recorded twice, and nothing is missing.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from support.callers import calling, transcript
from support.cluster import ClusterUnderTest
from support.error_desk import ACTIVE, CODES, NAMES, WAYS
from support.phase_desk import place
from support.phase_proxy import PhaseProxy, Reply
from support.phase_talk import WITHIN, Talk
from support.phased import phased_cluster
from voicebus.engine.failures import FATAL_CODES, PASSING_CODES, RATE_LIMIT_CODES

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("error-codes")]

Event = dict[str, Any]

BESIDE, INSTEAD, END = WAYS
ANSWER: Final = "One two three."
ASKED_AGAIN: Final = RATE_LIMIT_CODES | PASSING_CODES

_numbers = itertools.count(1)


def error(code: str) -> Event:
    """What a model says of an error; of a rate limit how soon it is over."""
    message = f"It says {code}, try again in 300ms."
    return {"type": "invalid_request_error", "code": code or None, "message": message, "param": None}


def beside(code: str) -> Reply:
    return Reply("response.create", lambda _: [{"type": "error", "error": {**error(code), "event_id": None}}], True)


def instead(code: str) -> Reply:
    def refused(event: Event) -> list[Event]:
        return [{"type": "error", "error": {**error(code), "event_id": event["event_id"]}}]

    return Reply("response.create", refused, False)


def ending(code: str) -> Reply:
    def failed(event: Event) -> list[Event]:
        begun = {"id": f"resp_failed_{next(_numbers)}", "metadata": event["response"].get("metadata"), "output": []}
        details = {"type": "failed", "error": error(code)}
        return [
            {"type": "response.created", "response": {**begun, "status": "in_progress"}},
            {"type": "response.done", "response": {**begun, "status": "failed", "status_details": details}},
        ]

    return Reply("response.create", failed, False)


REPLIES: Final = {BESIDE: beside, INSTEAD: instead, END: ending}


def outcome(code: str, way: str) -> str:
    """What becomes of a turn: it is `answered`, is told to have `failed`, or the session has `ended`."""
    if code in FATAL_CODES:
        return "ended"
    if code == "session_expired" and way != END:
        return "answered"
    if way == BESIDE or code in ASKED_AGAIN or (code == ACTIVE and way == INSTEAD):
        return "answered"
    return "failed"


@dataclass(frozen=True)
class Held:
    """What came of a conversation."""

    talk: Talk
    archived: Event


async def hold(name: str, code: str, way: str, cluster: ClusterUnderTest, proxy: PhaseProxy) -> Held:
    sockets = proxy.conversation(name)
    async with calling(cluster.gateway.url, agent=name) as caller:
        talk = Talk(name, caller, sockets)
        await talk.notes("note", "first")
        await talk.hears_noted("first")
        sockets.ways[0].replies.append(REPLIES[way](code))
        await talk.types(f"[[say: {ANSWER}]]")
        expected = outcome(code, way)
        if expected == "answered":
            await talk.hears(ANSWER)
        elif expected == "failed":
            await talk.until("error")
        if expected == "ended":
            await talk.until("session_ended")
        else:
            await talk.types("[[say: I know {known}.]]")
            await talk.hears(f"I know noted {talk.fact('first')}.")
            await caller.hangs_up()
        archived = await transcript(cluster.archiver.url, caller.session, timeout=WITHIN)
    return Held(talk, archived)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, Held | BaseException]]:
    """All conversations, or why one could not be held."""
    folder = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASE_DESK", str(folder))
        told = [(code, way) for code in CODES for way in WAYS]
        async with phased_cluster("support.error_desk", redis_url, folder) as (cluster, proxy):
            outcomes = await asyncio.gather(
                *(hold(name, *one, cluster, proxy) for name, one in zip(NAMES, told, strict=True)),
                return_exceptions=True,
            )
        yield dict(zip(NAMES, outcomes, strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", CODES)
def test_a_turn_is_answered_once_or_ends_with_a_clear_event_and_is_archived_once(
    code: str, way: str, held: Mapping[str, Held | BaseException]
) -> None:
    found = held[f"{code or 'no code'} {way}"]
    if isinstance(found, BaseException):
        raise found
    talk, archived, expected = found.talk, found.archived, outcome(code, way)
    assert archived["gaps"] == []
    assert archived["end_reason"] == ("model_lost" if expected == "ended" else "ended")
    messages = [item for item in archived["items"] if item["type"] == "message"]
    assert [(item["role"], item["text"]) for item in messages] == talk.caller.lines()
    assert max(Counter(item["item_id"] for item in messages).values()) == 1
    assert [item["text"] for item in messages if item["role"] == "user"] == talk.said
    # A model that is slow to answer may be asked again because of an error that was nobody's: that answer nobody hears.
    heard = [item["text"] for item in messages if item["role"] == "assistant" and item["heard_text"] != ""]
    assert heard == talk.answers
    assert [item["output"] for item in archived["items"] if item["type"] == "tool_call"] == [
        f"noted {fact}" for fact in talk.noted
    ]
    assert place("effects of", talk.fact("first")).read_text() == "one\n"
    told = [event["code"] for event in talk.caller.of("error")]
    if expected != "answered":
        assert told == [code or "invalid_request_error"]
        assert [item["outcome"] for item in archived["items"] if item["type"] == "error"] == told
    else:
        assert set(told) <= {code or "invalid_request_error"}
