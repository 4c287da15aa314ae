"""The default brain: directives in what the user said, else a scenario file, else an echo. The same every time."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voicebus.errors import SettingsError
from voicebus_services.model_simulator import directives
from voicebus_services.model_simulator.brains import (
    Brain,
    BrainContext,
    BrainReply,
    Call,
    Fault,
    FaultKind,
    Output,
    Say,
)

JsonObject = dict[str, Any]
# The text is JSON, so that it may hold quotes.
_SAY = re.compile(r"""(?:^|\n|\. )Say [^"\n]*: ("(?:[^"\\\n]|\\.)*")\s*\Z""")
_MAX_SCENARIO_BYTES = 4 * 1024 * 1024


class _Step(BaseModel):
    """One thing the model does: exactly one of `say`, `call` and `fault`, or only a delay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    say: str | None = None
    call: str | None = None
    arguments: dict[str, Any] | str = Field(default_factory=dict)
    fault: FaultKind | None = None
    code: str = "server_error"
    delay_ms: Annotated[int, Field(ge=0, le=600_000)] = 0


class _Turn(BaseModel):
    """One response. `when` is a regular expression that the latest words or function outputs must contain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: re.Pattern[str] | None = None
    reply: tuple[_Step, ...]


class Scenario(BaseModel):
    """A scenario file: `{"order": "sequence" | "match", "turns": [{"when": …, "reply": […]}]}`.

    In `sequence` the n-th answer of a conversation is the n-th turn (if its `when` fits), in `match` every answer is
    the first turn whose `when` fits. Where no turn fits, the brain echoes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: Literal["sequence", "match"] = "sequence"
    turns: tuple[_Turn, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Scenario":
        """Raises: SettingsError: the file cannot be read or is not a scenario; says where."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"VOICEBUS_SCENARIO: {path} cannot be read ({error.strerror}); name a JSON file"
            ) from error
        if len(data) > _MAX_SCENARIO_BYTES:
            raise SettingsError(f"VOICEBUS_SCENARIO: {path} is larger than 4 MiB")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise SettingsError(f"VOICEBUS_SCENARIO: {path}: {where}: {first['msg']}") from error


def last_user_text(items: Sequence[JsonObject]) -> str:
    """What the user said or wrote last; "" before that."""
    for item in reversed(items):
        if item["type"] == "message" and item["role"] == "user":
            parts = (part.get("text") or part.get("transcript") or "" for part in item["content"])
            return " ".join(part for part in parts if part)
    return ""


def since_last_user(items: Sequence[JsonObject]) -> list[JsonObject]:
    """The items after the last user message."""
    for place in range(len(items) - 1, -1, -1):
        if items[place]["type"] == "message" and items[place]["role"] == "user":
            return list(items[place + 1 :])
    return list(items)


def _rounds(items: Sequence[JsonObject]) -> int:
    """How many times function outputs have come back since the user spoke."""
    kinds = [item["type"] == "function_call_output" for item in items]
    return sum(1 for place, is_output in enumerate(kinds) if is_output and not (place and kinds[place - 1]))


class DirectedBrain:
    """Carries out directives; where there are none, another brain answers.

    What came of a directed call is said by a script, word for word, so that a test knows what it will hear. So is what
    the response's own instructions want said (`read_out`).
    """

    def __init__(self, otherwise: Brain) -> None:
        self._otherwise = otherwise
        self._afterwards = otherwise if isinstance(otherwise, ScriptedBrain) else ScriptedBrain()

    async def respond(self, context: BrainContext) -> BrainReply:
        wanted = read_out(context.instructions)
        if wanted is not None:
            return BrainReply((Say(wanted),))
        later = since_last_user(context.items)
        found = directives.find(last_user_text(context.items))
        reply = None
        if found:
            outputs, known = spoken_outputs(later), spoken_outputs(context.items)
            reply = directives.reply_for(found, _rounds(later), outputs, known)
        if reply is None:
            return await (self._afterwards if found else self._otherwise).respond(context)
        if not reply.outputs and (reply.fault is None or reply.fault.kind in ("malformed", "transcription_failed")):
            # Only how the answer comes was directed, not what it says.
            answer = await self._otherwise.respond(context)
            return BrainReply(answer.outputs, reply.fault or answer.fault, reply.delay_ms + answer.delay_ms)
        return reply


def read_out(instructions: str) -> str | None:
    """What instructions that end with a sentence `Say …: "TEXT"` want said; None where they want no such thing."""
    found = _SAY.search(instructions)
    if found is None:
        return None
    try:
        text = json.loads(found[1])
    except ValueError:
        return None
    return text or None


def spoken_outputs(items: Sequence[JsonObject]) -> str:
    return "; ".join(item["output"] for item in items if item["type"] == "function_call_output")


class ScriptedBrain:
    """Follows a scenario; without one, or where it has no turn, repeats what it was told."""

    def __init__(self, scenario: Scenario | None = None) -> None:
        self._scenario = scenario or Scenario()

    async def respond(self, context: BrainContext) -> BrainReply:
        later = since_last_user(context.items)
        outputs = spoken_outputs(later)
        heard = last_user_text(context.items)
        turn = self._turn(context, outputs or heard)
        if turn is not None:
            return _acted(turn, heard, outputs)
        if outputs:
            return BrainReply((Say(f"The result is: {outputs}"),))
        if heard:
            return BrainReply((Say(f"You said: {heard}"),))
        return BrainReply((Say("Hello! How can I help you?"),))

    def _turn(self, context: BrainContext, latest: str) -> _Turn | None:
        turns = self._scenario.turns
        if self._scenario.order == "sequence":
            answered = _answers(context.items)
            turns = turns[answered : answered + 1]
        for turn in turns:
            if turn.when is None or turn.when.search(latest):
                return turn
        return None


def _answers(items: Sequence[JsonObject]) -> int:
    """How many responses the model has given: runs of its own items between those of others."""
    own = [
        item["type"] == "function_call" or (item["type"] == "message" and item["role"] == "assistant") for item in items
    ]
    return sum(1 for place, is_own in enumerate(own) if is_own and not (place and own[place - 1]))


def _acted(turn: _Turn, heard: str, outputs: str) -> BrainReply:
    made: list[Output] = []
    fault, delay_ms = None, 0
    for step in turn.reply:
        delay_ms += step.delay_ms
        if step.say is not None:
            made.append(Say(step.say.replace("{heard}", heard).replace("{outputs}", outputs)))
        if step.call is not None:
            text = step.arguments if isinstance(step.arguments, str) else json.dumps(step.arguments)
            made.append(Call(step.call, text))
        if step.fault is not None:
            fault = Fault(step.fault, step.code)
    return BrainReply(tuple(made), fault, delay_ms)
