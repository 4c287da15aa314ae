"""A server's script: its steps, and what a step can say (whole turns, calls, failures, the user's speech, a drop)."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.agents import checking
from voicebus.testing.scripts import RealtimeScriptError, contains
from voicebus.testing.server_conversation import ServerConversation, ServerEvent

ABNORMAL: Final = 1006
"""The close code of a connection that ended without a close frame."""


@dataclass(frozen=True)
class Drop:
    """The connection ends: with a close frame of `code`, or without any word for 1006 (the default)."""

    code: int = ABNORMAL
    reason: str = ""

    def __post_init__(self) -> None:
        checking.whole("Drop", "code", self.code, least=1000)
        checking.text("Drop", "reason", self.reason)


Emission = Mapping[str, Any] | Drop | Callable[[ServerConversation], Iterable[ServerEvent]]
"""What a step emits: a server event as it stands (`event_id` is added), a turn such as `text_turn(...)`, a `Drop`."""

ClientEvent = dict[str, Any]


@dataclass(frozen=True)
class ServerStep:
    """One step of a server's script.

    `expect` is a client event's type, a part of one (`{"item": {"type": "message"}}`; what else it has does not
    matter), a function of it, or None: do not wait for the client. `emit` follows at once.
    """

    expect: str | Mapping[str, Any] | Callable[[ClientEvent], object] | None
    emit: Sequence[Emission] | Emission = ()

    def __post_init__(self) -> None:
        expected = self.expect
        if expected is not None and not isinstance(expected, str | Mapping) and not callable(expected):
            checking.refuse("ServerStep", "expect", "an event's type, a part of one, a function or None", expected)
        for one in self.emissions() if not isinstance(self.emit, str | bytes) else (self.emit,):
            if not isinstance(one, Mapping | Drop) and not callable(one):
                checking.refuse("ServerStep", "emit", "server events, turns such as text_turn(...), or a Drop", one)

    def emissions(self) -> tuple[Emission, ...]:
        """What follows, also where `emit` is a single thing."""
        return tuple(self.emit) if isinstance(self.emit, Sequence) else (self.emit,)

    def fits(self, event: ClientEvent) -> bool:
        """Whether this is the client event that the step waits for."""
        if isinstance(self.expect, str):
            return event.get("type") == self.expect
        if isinstance(self.expect, Mapping):
            return contains(self.expect, event)
        return self.expect is not None and bool(self.expect(event))


# --- what servers say --------------------------------------------------------------------------------


def text_turn(text: str) -> Emission:
    """A whole response that answers with `text`."""
    return _turn("text", text, None)


def audio_turn(transcript: str, samples: bytes | None = None) -> Emission:
    """A whole response that says `transcript`; `samples` None is silence, 20 ms per character."""
    return _turn("audio", transcript, samples)


def open_turn(transcript: str, samples: bytes | None = None, *, kind: str = "audio") -> Emission:
    """A response that has begun and goes on; `barge_in()`, a client's cancel or `end_turn()` ends it."""

    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        yield from conversation.begin_response()
        yield from conversation.begin_message(kind)
        yield from conversation.say(transcript, samples)

    return emit


def end_turn(more: str = "") -> Emission:
    """The rest of an open turn: `more` words, if any, and its end."""

    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        if more:
            yield from conversation.say(more)
        yield from conversation.end_response()

    return emit


def function_call(
    name: str, arguments: Mapping[str, Any] | str = "{}", *, call_id: str | None = None, preamble: str = ""
) -> Emission:
    """A whole response that calls a function, after saying `preamble`, if any. Text arguments pass as they are."""
    return function_calls((name, arguments, call_id), preamble=preamble)


def function_calls(*calls: tuple[str, Mapping[str, Any] | str, str | None], preamble: str = "") -> Emission:
    """A whole response with several calls, each `(name, arguments, call_id or None)`."""

    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        yield from conversation.begin_response()
        if preamble:
            yield from conversation.begin_message("audio")
            yield from conversation.say(preamble)
            yield from conversation.end_message()
        for name, arguments, call_id in calls:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            yield from conversation.call(name, text, call_id)
        yield from conversation.end_response()

    return emit


def failed_turn(code: str = "server_error", message: str = "The server had an error.") -> Emission:
    """A response that begins and fails. A `server_error` is one that passes: it is asked for again."""
    kind = code if code == "server_error" else "invalid_request_error"
    error = {"type": kind, "code": code, "message": message}

    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        yield from conversation.begin_response()
        yield from conversation.end_response("failed", {"type": "failed", "error": error})

    return emit


def user_turn(transcript: str | None) -> Emission:
    """The user spoke: speech, its commit, its item and, unless None, its transcript."""
    return lambda conversation: conversation.user_speech(transcript)


def barge_in(transcript: str | None = None) -> Emission:
    """The user speaks into an open turn and cuts it off; then as `user_turn`."""

    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        if not conversation.is_answering:
            raise RealtimeScriptError("barge_in() needs an open turn; emit open_turn(...) first")
        yield from conversation.user_speech(transcript)

    return emit


def server_error(code: str, message: str) -> Emission:
    """An `error` event; the connection goes on."""
    return lambda conversation: [conversation.error(code, message)]


def _turn(kind: str, text: str, samples: bytes | None) -> Emission:
    def emit(conversation: ServerConversation) -> Iterator[ServerEvent]:
        yield from conversation.begin_response()
        yield from conversation.begin_message(kind)
        yield from conversation.say(text, samples)
        yield from conversation.end_response()

    return emit
