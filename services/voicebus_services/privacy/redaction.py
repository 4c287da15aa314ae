"""Rules that take parts out of texts. Knows texts and JSON, and nothing of events.

All rules look at the text as it was written, so none of them sees what another one has put there. Where places overlap
they go as one, in the name of the first rule. Of a text at which a rule fails nothing is kept, as nobody knows what it
would have found; the rest of the event is.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from voicebus.detection import Detector, Place, Usual
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

WITHHELD: Final = "[withheld]"
"""Stands for a text at which a rule has failed."""

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
# JSON in JSON in JSON ...
_DEEPEST: Final = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """`name` is for metrics, `replacement` takes the place of what `detect` finds; `unfinished` finds what a text that
    was cut off may have been about to become.
    """

    name: str
    detect: Detector
    replacement: str
    unfinished: Detector | None = None


class Redaction:
    """The rules of a tenant, in their order; without rules nothing is changed."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        # Those that failed before: told once, counted each time.
        self._failed: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def said(self, text: str, heard: str | None, counts: Counter[str], *, cut: bool) -> tuple[str, str | None]:
        """What was said, and what of it was heard: half a number that was heard goes where the whole was said.

        `cut`: the text may end in the middle of something.
        """
        found = self._places(text, cut=cut)
        plain = _without(text, found, counts)
        if heard is None:
            return plain, None
        if not text.startswith(heard):
            return plain, _without(heard, self._places(heard, cut=True), Counter())
        within = [(Place(place.start, min(place.end, len(heard))), rule) for place, rule in found]
        return plain, _without(heard, [one for one in within if one[0].start < one[0].end], Counter())

    def text(self, text: str, counts: Counter[str]) -> str:
        """A text of any kind; JSON stays JSON where a rule keeps to its strings and numbers."""
        return self._text(text, counts, _DEEPEST) if self.rules else text

    def value(self, value: Any, counts: Counter[str]) -> Any:
        """Everything in a value of JSON, names of members included."""
        if isinstance(value, str):
            return self.text(value, counts)
        if isinstance(value, dict):
            return {self.text(str(name), counts): self.value(inner, counts) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, counts) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            written = str(value)
            redacted = self.text(written, counts)
            return value if redacted == written else redacted
        return value

    def _text(self, text: str, counts: Counter[str], depth: int) -> str:
        if depth and text.lstrip()[:1] in ("{", "[") and _is_json(text):
            # Written with escapes, or as one number among others, it would not be found in the text as a whole.
            text = _TOKEN.sub(lambda token: self._token(token.group(), counts, depth - 1), text)
        return _without(text, self._places(text), counts)

    def _token(self, token: str, counts: Counter[str], depth: int) -> str:
        inner = json.loads(token) if token[0] == '"' else token
        redacted = self._text(inner, counts, depth)
        # Half a surrogate pair, which only JSON can write, has to stay an escape.
        return token if redacted == inner else json.dumps(redacted, ensure_ascii=not _is_writable(redacted))

    def _places(self, text: str, *, cut: bool = False) -> list[tuple[Place, Rule]]:
        """Where something is to go, in the order of the text; places do not overlap."""
        usual = Usual(text)
        found: list[tuple[Place, int]] = []
        for index, rule in enumerate(self.rules):
            try:
                found += [(place, index) for place in usual.within(rule.detect(usual.text))]
                if cut and rule.unfinished is not None:
                    found += [(place, index) for place in usual.within(rule.unfinished(usual.text))]
            except RecursionError:
                raise  # not of the rule
            except Exception as error:  # noqa: BLE001 - a library may raise anything, and all others wait for this
                self._tell(rule, error)
                return [(Place(0, len(text)), replace(rule, replacement=WITHHELD))] if text else []
        merged: list[tuple[Place, int]] = []
        for place, index in sorted(found):
            if merged and place.start < merged[-1][0].end:
                before, first = merged[-1]
                merged[-1] = Place(before.start, max(before.end, place.end)), min(first, index)
            else:
                merged.append((place, index))
        return [(place, self.rules[index]) for place, index in merged]

    def _tell(self, rule: Rule, error: Exception) -> None:
        metrics.REDACTION_FAILURES.labels(rule=rule.name).inc()
        if rule.name not in self._failed:
            self._failed.add(rule.name)
            # What the error says, and where it says it, may hold the text.
            log.error(
                "a rule fails; texts at which it does are left out whole", rule=rule.name, error=type(error).__name__
            )


def _without(text: str, found: Iterable[tuple[Place, Rule]], counts: Counter[str]) -> str:
    parts: list[str] = []
    position = 0
    for place, rule in found:
        parts += (text[position : place.start], rule.replacement)
        position = place.end
        counts[rule.name] += 1
    return "".join(parts) + text[position:] if parts else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
