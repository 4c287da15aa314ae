"""What the brain says: questions for missing arguments and results in a sentence. The single home of its wording.

A result is only ever said from the output of a call; nothing is added that the output does not hold.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import spoken_name

_LONGEST_SAID: Final = 400  # characters; about half a minute
_MOST_SENTENCES: Final = 3
_MOST_LISTED: Final = 4
_DEEPEST: Final = 3
_ERROR_TEXT: Final = re.compile(
    r"^\s*(?:(?:an? )?(?:internal |unexpected |unknown )?(?:error|exception|failure)\b|failed\b|could not|cannot"
    r"|unable to|traceback|\w*(?:Error|Exception)\b\s*:)",
    re.IGNORECASE,
)
_ERROR_PREFIX: Final = re.compile(
    r"^\s*(?:an error occurred(?: while running the tool)?[.:]?\s*(?:please try again[.]?\s*)?)?(?:(?:error"
    r"|failed|failure)\s*:\s*)*",
    re.IGNORECASE,
)
_SENTENCE_KEYS: Final = (
    "message",
    "summary",
    "answer",
    "text",
    "result",
    "response",
    "description",
    "speech",
    "output",
)
_SUCCESS_KEYS: Final = frozenset({"ok", "success", "succeeded", "done"})
_UNITS: Final = {
    "c": "degrees Celsius", "celsius": "degrees Celsius", "f": "degrees Fahrenheit", "fahrenheit": "degrees Fahrenheit",
    "km": "kilometers", "kmh": "kilometers per hour", "kph": "kilometers per hour", "mph": "miles per hour",
    "m": "meters", "kg": "kilograms", "minutes": "minutes", "min": "minutes", "mins": "minutes", "seconds": "seconds",
    "hours": "hours", "days": "days", "percent": "percent", "pct": "percent", "usd": "dollars", "eur": "euros",
    "gbp": "pounds", "miles": "miles", "mm": "millimeters", "degrees": "degrees",
}  # fmt: skip
_MONEY_NAMES: Final = {"USD": "dollars", "EUR": "euros", "GBP": "pounds", "JPY": "yen", "CHF": "francs"}
_MONEY_KEYS: Final = ("amount", "price", "total", "balance", "cost", "fare", "fee")
_ADJECTIVE: Final = re.compile(
    r"(?:able|ible|ed|ful|ive|ous|ent|ant)$|^(?:open|ready|free|full|valid|on|off|online|due|new|late|sunny)$"
)
_SPOKEN_TEXTS: Final = frozenset({"message", "text", "body", "note", "content", "comment", "memo"})
_PLACE_KEYS: Final = frozenset({"city", "location", "place", "town"})


def question(tool: Tool, parameter: Parameter) -> str:
    """The question for a missing argument. The same question always comes for the same parameter."""
    label = _label(parameter)
    if parameter.enum and len(parameter.enum) <= 5:
        return f"Which {label}: {_listed([_plain(v) for v in parameter.enum], 'or')}?"
    if parameter.enum:
        return f"Which {label}?"
    if parameter.accepts("boolean"):
        if label in {"on", "off"}:
            return "On or off?"
        plain = re.sub(r"^(?:is|has|should be|with|include|use) ", "", label)
        return (
            f"Should it be {plain}?"
            if plain.endswith(("ed", "able", "ible", "ful"))
            else f"{_capital(plain)}, yes or no?"
        )
    if parameter.accepts("array"):
        return f"Which {label}?"
    by_kind = {
        "time": "At what time?" if label == "time" else f"What {label}?",
        "datetime": "When?" if label in {"when", "time", "datetime", "date time"} else f"What is the {label}?",
        "date": "For which date?" if label == "date" else f"What is the {label}?",
        "day": "For which day?" if label == "day" else f"Which {label}?",
        "duration": "For how long?" if parameter.accepts("string") or "duration" in label else f"How many {label}?",
        "amount": "How much?" if label in {"amount", "value", "sum"} else f"What is the {label}?",
        "count": _how_many(label),
        "person": _who(label),
        "text": f"What should the {label} say?" if label in _SPOKEN_TEXTS else f"What is the {label}?",
        "query": "What should I look for?",
        "title": f"What is the {label}?",
    }  # fmt: skip
    if parameter.kind in by_kind:
        return by_kind[parameter.kind]
    if parameter.kind in {"place", "thing", "language", "color", "currency", "weekday", "month"}:
        return f"Which {label}?"
    return f"What is the {label}?"


def _who(label: str) -> str:
    if label == "to":
        return "To whom?"
    return "What is the name?" if label in {"name", "full name"} else f"Who is the {label}?"


def _how_many(label: str) -> str:
    if label in {"quantity", "count", "qty", "number"}:
        return "How many?"
    label = re.sub(r"^(?:number of|num|no of) ", "", label)
    return (
        f"How many {re.sub(r' (?:count|size)$', '', label)}?"
        if label.endswith("s") or label == "people"
        else f"What is the {label}?"
    )


def _label(parameter: Parameter) -> str:
    words = spoken_name(parameter.name)
    return re.sub(r"\bid\b", "ID", words)


def apology(reason: str) -> str:
    """An apology with the reason of a failed call."""
    reason = _shortened(_ERROR_PREFIX.sub("", " ".join(reason.split())).strip(" .:"))
    return f"I'm sorry, that did not work: {reason.rstrip('.')}." if reason else "I'm sorry, that did not work."


def result(tool_name: str, arguments: Mapping[str, Any], output: str) -> str:
    """The output of a call, said in a sentence or a few."""
    output = output.strip()
    if not output:
        return "That is done."
    try:
        value = json.loads(output)
    except ValueError:
        return apology(output) if _ERROR_TEXT.match(output) else _sentence(_shortened(" ".join(output.split())))
    return _say_value(value, tool_name, arguments)


def _say_value(value: Any, tool_name: str, arguments: Mapping[str, Any]) -> str:
    if isinstance(value, str):
        return (
            apology(value)
            if _ERROR_TEXT.match(value)
            else _sentence(_shortened(" ".join(value.split())))
            if value.strip()
            else "That is done."
        )
    if value is None or value is True:
        return "That is done."
    if value is False:
        return "The answer is no."
    if isinstance(value, int | float):
        return f"The {_object_of(tool_name)} is {_plain(value)}."
    if isinstance(value, list):
        return _say_list(value, _object_of(tool_name))
    return _say_object(value, tool_name, arguments)


def _object_of(tool_name: str) -> str:
    words = spoken_name(tool_name).split()
    return " ".join(words[1:]) if len(words) > 1 else "result"


def _say_list(values: list[Any], noun: str) -> str:
    if not values:
        return "I found nothing."
    said = [_brief(v) for v in values[:_MOST_LISTED]]
    if len(values) > _MOST_LISTED:
        said.append(f"{len(values) - _MOST_LISTED} more")
    simple = all(not isinstance(v, dict) for v in values)
    listed = _listed(said, "and") if simple else "; ".join(said)
    if len(values) == 1:
        return _sentence(f"I found one: {listed}")
    return _sentence(f"I found {len(values)}: {listed}")


def _brief(value: Any, depth: int = 0) -> str:
    if isinstance(value, dict) and depth < _DEEPEST:
        named = next((k for k in ("name", "title", "label", "id") if isinstance(value.get(k), str | int)), None)
        rest = [
            _pair(k, v, depth)
            for k, v in _merged_money(value).items()
            if k != named and v is not None and not isinstance(v, list)
        ]
        head = [_plain(value[named])] if named else []
        return ", ".join([*head, *rest[:5]])
    if isinstance(value, list):
        return _listed([_brief(v, depth + 1) for v in value[:_MOST_LISTED]], "and")
    return _plain(value)


def _pair(key: str, value: Any, depth: int = 0) -> str:
    label, said = _measured(key, value, depth)
    return f"{label} {said}"


def _say_object(value: Mapping[str, Any], tool_name: str, arguments: Mapping[str, Any]) -> str:
    error = value.get("error") or value.get("errors") or value.get("exception")
    if error:
        reason = error.get("message", error) if isinstance(error, dict) else error
        return apology(reason if isinstance(reason, str) else str(value.get("message") or _brief(reason)))
    failed = any(value.get(k) is False for k in _SUCCESS_KEYS) or str(value.get("status", "")).lower() in {
        "error",
        "failed",
        "failure",
    }
    if failed:
        return apology(str(value.get("message") or value.get("reason") or value.get("detail") or ""))
    for key in _SENTENCE_KEYS:
        text = value.get(key)
        if isinstance(text, str) and len(text.split()) >= 4:
            return _sentence(_shortened(" ".join(text.split())))
    facts = {k: v for k, v in value.items() if v is not None and not (k in _SUCCESS_KEYS and v is True)}
    if len(facts) == 1 and isinstance(next(iter(facts.values())), list):
        key, values = next(iter(facts.items()))
        return _say_list(values, spoken_name(key))
    facts = _merged_money(facts)
    opening = ""
    place = next((k for k in facts if k.lower() in _PLACE_KEYS and isinstance(facts[k], str) and len(facts) > 1), None)
    if place is not None:
        opening = f"In {facts.pop(place)}, "
    clauses = [_clause(key, fact) for key, fact in facts.items()]
    if not clauses:
        return "That is done."
    done = "Done. " if any(value.get(k) is True for k in _SUCCESS_KEYS) else ""
    said, shown = "", 0
    for shown in range(len(clauses), 0, -1):
        said = opening + _listed(clauses[:shown], "and")
        if len(said) <= _LONGEST_SAID:
            break
    return done + _sentence(said if shown else clauses[0][:_LONGEST_SAID])


def _merged_money(facts: Mapping[str, Any]) -> dict[str, Any]:
    """An amount together with its currency."""
    merged = dict(facts)
    code = next((merged[k] for k in ("currency", "currency_code") if isinstance(merged.get(k), str)), None)
    amount = next(
        (k for k in merged if any(m in k.lower() for m in _MONEY_KEYS) and isinstance(merged[k], int | float)), None
    )
    if code and amount:
        merged[amount] = f"{_plain(merged[amount])} {_MONEY_NAMES.get(code.upper(), code)}"
        merged.pop("currency", None)
        merged.pop("currency_code", None)
    return merged


def _clause(key: str, value: Any) -> str:
    label, said = _measured(key, value)
    if isinstance(value, bool):
        plain = re.sub(r"^(?:is|has) ", "", label)
        if label.startswith("is ") or _ADJECTIVE.search(plain):
            return f"it is {'' if value else 'not '}{plain}"
        return f"{'with' if value else 'without'} {plain}"
    if isinstance(value, list):
        return (
            f"there is no {label}" if not value else f"the {label} {'is' if not label.endswith('s') else 'are'} {said}"
        )
    if isinstance(value, dict):
        inner = [_pair(k, v, 1) for k, v in _merged_money(value).items() if v is not None]
        return f"the {label}: {_listed(inner, 'and')}" if inner else f"the {label} is empty"
    plural = label.endswith("s") and not label.endswith(("ss", "us", "is"))
    return f"the {label} {'are' if plural else 'is'} {said}"


def _measured(key: str, value: Any, depth: int = 0) -> tuple[str, str]:
    """The key as said, and the value with the unit that the key carries (`temperature_c`)."""
    words = spoken_name(key).split()
    said = _brief(value, depth + 1)
    if len(words) > 1 and words[-1] in _UNITS and isinstance(value, int | float) and not isinstance(value, bool):
        return " ".join(words[:-1]), f"{said} {_UNITS[words[-1]]}"
    label = " ".join(words)
    return re.sub(r"\bid\b", "ID", label), said


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return (
        str(value).replace("_", " ")
        if isinstance(value, str) and " " not in value and re.fullmatch(r"[a-z_]+", value)
        else str(value)
    )


def _listed(parts: Sequence[str], word: str) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    text = _capital(text.strip())
    return text if text.endswith((".", "!", "?", "…")) else text + "."


def _shortened(text: str) -> str:
    """The first sentences."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    kept = " ".join(sentences[:_MOST_SENTENCES])
    if len(kept) <= _LONGEST_SAID:
        return kept
    kept = sentences[0]
    return kept if len(kept) <= _LONGEST_SAID else kept[:_LONGEST_SAID].rsplit(" ", 1)[0] + "…"
