"""What other values settle: the single home of ordering, splitting and completing arguments after the first pass."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

from voicebus_services.model_simulator.brain.candidates import typed_candidates
from voicebus_services.model_simulator.brain.defaults import stated_default
from voicebus_services.model_simulator.brain.filling import ENOUGH_REQUIRED, Filling, enough
from voicebus_services.model_simulator.brain.phrases import phrase_candidates
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.tokens import split_name, stem
from voicebus_services.model_simulator.brain.utterance import Utterance
from voicebus_services.model_simulator.brain.yes_no import unmentioned

_DAYS_OF = {"day": 1, "night": 1, "week": 7}
_LONGEST_SPAN = 3660  # days
_AS_GOOD = 0.75  # the score that the unit said only once may cost


def order_numbers(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """Numbers that fit two parameters equally well are meant in the order of the schema ("five by six meters")."""
    numeric = [p for p in parameters if p.accepts("integer", "number") and not p.enum and p.path in filling.places]
    for left, right in pairwise(numeric):
        if filling.places[left.path] < filling.places[right.path]:
            continue
        by_place = [{c.first: c for c in reversed(typed_candidates(p, said))} for p in (left, right)]
        here, there = filling.places[left.path], filling.places[right.path]
        if not {said.low(i) for i in range(there, here)} & {"by", "x", "over"}:
            continue
        if not (there in by_place[0] and here in by_place[1] and here in by_place[0] and there in by_place[1]):
            continue
        now = by_place[0][here].score + by_place[1][there].score
        swapped = by_place[0][there].score + by_place[1][here].score
        if swapped > now - _AS_GOOD:
            filling.set(left, by_place[0][there])
            filling.set(right, by_place[1][here])


def split_names(tool: Tool, said: Utterance, filling: Filling) -> None:
    """First and last name are found as one name and taken apart."""
    for first_name in tool.parameters:
        if split_name(first_name.name)[:1] not in (["first"], ["given"]) or first_name.path in filling.values:
            continue
        last_name = next(
            (p for p in tool.parameters if p.path[:-1] == first_name.path[:-1] and p.path not in filling.values
             and (set(split_name(p.name)) & {"last", "family", "surname"})), None,
        )  # fmt: skip
        if last_name is None:
            continue
        whole = replace(first_name, kind="person", words=(stem("name"), *first_name.words))
        found = [c for c in phrase_candidates(whole, tool, said, filling.used) if len(str(c.value).split()) >= 2]
        if not found or found[0].score < ENOUGH_REQUIRED:
            continue
        given, _, family = str(found[0].value).rpartition(" ")
        filling.set(first_name, replace(found[0], value=given))
        filling.set(last_name, replace(found[0], value=family))


def assign_left_number(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """The one number that is left goes to the one parameter that still wants one."""
    wanting = [p for p in parameters if p.path not in filling.values and p.accepts("integer", "number") and not p.enum]
    timed = {i for m in said.moments for i in range(m.first, m.last)} | said.house_numbers
    left = [n for n in said.numbers if n.first not in filling.used | timed and not n.ordinal]
    if len(wanting) != 1 or len(left) != 1 or said.low(left[0].first) in {"one", "once", "twice", "a", "an"}:
        return
    for candidate in typed_candidates(wanting[0], said):
        if candidate.first == left[0].first and candidate.score >= ENOUGH_REQUIRED:
            filling.set(wanting[0], candidate)
            return


def order_dates(parameters: list[Parameter], said: Utterance, filling: Filling) -> None:
    """ "From Monday to Friday" ends after it begins: an end that was named by its weekday moves on by weeks."""
    dated = {p.role: p for p in parameters if p.kind == "date" and p.path in filling.values and p.role}
    if not {"from", "to"} <= dated.keys():
        return
    start, end = dated["from"], dated["to"]
    moment = next((m for m in said.moments if m.first == filling.places.get(end.path)), None)
    first = next((m for m in said.moments if m.first == filling.places.get(start.path)), None)
    if not (moment and first and moment.day and first.day and moment.weekday) or moment.day >= first.day:
        return
    later = moment.day + timedelta(weeks=(first.day - moment.day).days // 7 + 1)
    if filling.values[end.path] == moment.day.isoformat():
        filling.values[end.path] = later.isoformat()


def end_on_the_first_day(tool: Tool, said: Utterance, filling: Filling) -> None:
    """ "Thursday" alone is its own last day, "from Thursday" is not, but for a stated number of days."""
    dated = {_side(p): p for p in tool.required if p.kind == "date" and _side(p)}
    start, end = dated.get("from"), dated.get("to")
    if start is None or end is None or start.nullable or end.nullable:
        return
    if (start.path in filling.values) == (end.path in filling.values):
        return
    if sum(m.day is not None for m in said.moments) != 1:
        return
    told, untold = (start, end) if start.path in filling.values else (end, start)
    length = next((n for n in said.numbers if n.unit in _DAYS_OF and n.value * _DAYS_OF[n.unit] >= 1), None)
    if length is not None and length.value * _DAYS_OF[length.unit] > 1:
        # "For three days from Monday" ends on Wednesday where the last day itself counts ("last day off").
        inclusive = "last" in end.words or "inclusive" in end.description.lower()
        if told is start:
            _end_after(start, end, length.value * _DAYS_OF[length.unit] - inclusive, filling)
        return
    place = filling.places.get(told.path, 0)
    if any(said.low(i) in {"from", "starting", "since", "until", "till", "to", "after", "beginning"}
           for i in range(max(0, place - 2), place)):  # fmt: skip
        return
    filling.values[untold.path] = filling.values[told.path]
    if told is start and "weekend" in {said.low(i) for i in range(place, place + 2)}:
        _end_after(start, end, 1, filling)  # on its Sunday


def _side(parameter: Parameter) -> str:
    """The side of a day: the first and the last one of a span besides its start and end."""
    if parameter.role in {"from", "to"}:
        return parameter.role
    return "from" if "first" in parameter.words else "to" if "last" in parameter.words else ""


def _end_after(start: Parameter, end: Parameter, days: float, filling: Filling) -> None:
    """Fill the end by the days after the start."""
    if days > _LONGEST_SPAN:
        return  # no date may lie that far ahead
    try:
        first = date.fromisoformat(str(filling.values[start.path]))
    except ValueError:
        return  # the parameter takes its days as said ("Monday"): there is nothing to count with
    filling.values[end.path] = (first + timedelta(days=int(days))).isoformat()


def complete_objects(tool: Tool, said: Utterance, filling: Filling) -> None:
    """An optional object that got a value needs its other required ones too, or it has to go."""
    for parameter in tool.parameters:
        if parameter.required or not parameter.needed_inside or len(parameter.path) < 2 or (
            parameter.path in filling.values
        ):  # fmt: skip
            continue
        if not any(path[: len(parameter.path) - 1] == parameter.path[:-1] for path in filling.values):
            continue
        needed = replace(parameter, required=True)
        fitting = [
            c for c in typed_candidates(needed, said) if c.score >= enough(needed) and not c.tokens & filling.used
        ]
        value = fitting[0].value if fitting else stated_default(needed, said.today)
        if value is not None:
            filling.values[parameter.path] = value


def settle_booleans(tool: Tool, filling: Filling) -> None:
    """Required booleans that nobody spoke of, where something else was told or all the tool wants is yes or no."""
    told = [p for p in tool.parameters if p.path in filling.values and not p.accepts("boolean")]
    for parameter in tool.required:
        if not parameter.accepts("boolean") or parameter.path in filling.values or parameter.nullable:
            continue
        beside = any(not p.required and (p.accepts("integer", "number") or p.kind == "color") for p in told)
        value = unmentioned(parameter, mentioned=beside)
        if value is not None and not parameter.has_default:
            filling.values[parameter.path] = value
