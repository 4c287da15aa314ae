"""What a scenario is: steps of a conversation, said and expected. The YAML of a scenario file has these fields."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

DEFAULT_WITHIN_S: Final = 10.0
_LONGEST_S: Final = 600.0

Seconds = Annotated[float, Field(ge=0, le=_LONGEST_S)]


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


class _Placed(_Part):
    """Something that knows where it is from."""

    _place: tuple[Path | None, int] = PrivateAttr((None, 0))

    @property
    def place(self) -> tuple[Path | None, int]:
        """The file that it is from (None without one), and its line there."""
        return self._place

    @place.setter
    def place(self, place: tuple[Path | None, int]) -> None:
        self._place = place


def _short(field: str) -> BeforeValidator:
    """A bare value stands for the mapping with this one field."""
    return BeforeValidator(lambda value: value if isinstance(value, dict) else {field: value})


class SayAudio(_Part):
    """Sound for the agent: a WAV file (PCM 16 bit, mono, 24 kHz), relative to the scenario file.

    A second of silence follows, so that turn detection hears its end; `commit` ends the turn where there is none.
    """

    file: str
    commit: bool = False


class ExpectTool(_Part):
    """A call of the tool `name`; among its arguments are `arguments`. With `output` or `outcome` it has ended so."""

    name: str
    arguments: dict[str, Any] = {}
    output: Any = None
    outcome: Literal["ok", "error", "timeout", "cancelled", "expired", "unknown"] | None = None


class ExpectText(_Part):
    """Words of the assistant, or of the user (what the transcription understood); `matches` is a regular expression."""

    contains: str | None = None
    matches: str | None = None
    equals: str | None = None
    role: Literal["assistant", "user"] = "assistant"

    @model_validator(mode="after")
    def _says_something(self) -> "ExpectText":
        if self.contains is None and self.matches is None and self.equals is None:
            raise ValueError("one of contains, matches and equals is needed")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"matches is no regular expression: {error}") from error
        return self


class ExpectHandoff(_Part):
    """A handoff to an agent, by names."""

    to: str
    from_: str | None = Field(None, alias="from")


class ExpectNo(_Part):
    """Something that does not happen: not so far, nor during `for` seconds more. One of the other fields is needed."""

    for_: Seconds = Field(0.0, alias="for")
    tool: str | None = None
    text: str | None = None
    handoff: str | None = None
    guardrail: str | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> "ExpectNo":
        if all(value is None for value in (self.tool, self.text, self.handoff, self.guardrail, self.error)):
            raise ValueError("one of tool, text, handoff, guardrail and error is needed")
        return self


class Approve(_Part):
    """Wait until a call of `tool` asks for approval, and approve it; `always` for later ones too."""

    tool: str
    always: bool = False


class Reject(_Part):
    """As `Approve`, but reject; `message` is what the model is told."""

    tool: str
    always: bool = False
    message: str | None = None


class InterruptAfter(_Part):
    """Interrupt the answer, `ms` after its first `sound`, or its first `words` (of an answer in text)."""

    ms: Annotated[float, Field(ge=0, le=_LONGEST_S * 1000)]
    of: Literal["sound", "words"] = "sound"


class Step(_Placed):
    """One step: exactly one thing to do or to expect. `within` is its time limit (s)."""

    say: str | None = None
    say_audio: Annotated[SayAudio, _short("file")] | None = None
    expect_tool: Annotated[ExpectTool, _short("name")] | None = None
    expect_text: Annotated[ExpectText, _short("contains")] | None = None
    expect_handoff: Annotated[ExpectHandoff, _short("to")] | None = None
    expect_guardrail: str | None = None
    expect_interruption: Literal[True] | None = None
    expect_error: str | None = None
    expect_no: ExpectNo | None = None
    interrupt_after: Annotated[InterruptAfter, _short("ms")] | None = None
    approve: Annotated[Approve, _short("tool")] | None = None
    reject: Annotated[Reject, _short("tool")] | None = None
    wait: Seconds | None = None
    within: Seconds | None = None

    @property
    def action(self) -> str:
        """Which of the fields is given."""
        return next(name for name in ACTIONS if getattr(self, name) is not None)

    def __str__(self) -> str:
        """The step in a line, as reports show it."""
        value = getattr(self, self.action)
        if isinstance(value, _Part):
            given = value.model_dump(by_alias=True, exclude_unset=True)
            short = next(iter(type(value).model_fields))
            about = [_word(entry) if name == short else f"{name}={_word(entry)}" for name, entry in given.items()]
            return f"{self.action} {' '.join(about)}"
        return self.action if value is True else f"{self.action} {_word(value)}"

    @model_validator(mode="after")
    def _does_one_thing(self) -> "Step":
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            empty = next((f"its {name} is empty" for name in ACTIONS if name in self.model_fields_set), "it has none")
            found = f"it has {' and '.join(given)}" if given else empty
            raise ValueError(f"a step is exactly one of {', '.join(ACTIONS)}; {found}")
        return self


ACTIONS: Final = tuple(name for name in Step.model_fields if name != "within")


class StandIn(_Part):
    """What answers instead of a tool: a value, or an error with this text."""

    returns: Any = None
    raises: str | None = None

    @model_validator(mode="after")
    def _answers_one_way(self) -> "StandIn":
        if len(self.model_fields_set) != 1:
            raise ValueError("a tool either `returns` something or `raises` an error text")
        return self


class Scenario(_Placed):
    """A conversation to be held and checked.

    `agent` is a TARGET (`module:attribute`), `settings` are model settings over the agent's own, `context` is the
    session's context object, `within` the limit of steps that set none (s), `tools` what answers instead of tools.
    """

    _lines: dict[str, int] = PrivateAttr(default_factory=dict)

    name: str = ""
    agent: str | None = None
    settings: dict[str, Any] = {}
    context: dict[str, Any] | None = None
    within: Seconds = DEFAULT_WITHIN_S
    tools: dict[str, StandIn] = {}
    steps: list[Step] = Field(min_length=1)

    def from_file(self, file: Path, line: int, lines: dict[str, int]) -> None:
        """It is from there; `lines` are those of its fields."""
        self.place = (file, line)
        self._lines = lines

    def where(self, field: str = "") -> str:
        """`file:line: field: `, as what is wrong with a field is told; without the place where it is from no file."""
        path, line = self.place
        place = f"{path}:{self._lines.get(field, line)}: " if path is not None else ""
        return f"{place}{field}: " if field else place


def fields_at(location: tuple[str | int, ...]) -> list[str]:
    """The names of the fields that are allowed at a place of a scenario, for messages."""
    model: type[BaseModel] = Scenario
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            kinds = _models(model.model_fields[part].annotation)
            model = kinds[0] if kinds else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)
    shown = text if len(text) <= 60 else f"{text[:59]}…"
    return repr(shown) if isinstance(value, str) and (" " in shown or not shown) else shown
