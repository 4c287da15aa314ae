"""Tools and their parameters as the brain sees them. The single home of reading JSON Schema.

References, nullable unions and nested objects are resolved here once, so that nothing else looks into a schema.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus_services.model_simulator.brain.tokens import split_name, stem, stemmed_words, stems

JsonObject = dict[str, Any]

_DEEPEST: Final = 6  # nesting beyond this is ignored: schemas come from strangers and may refer to themselves
_MOST_PARAMETERS: Final = 60

# What a parameter holds, told by the words of its name (last word first), then of its description.
_KIND_WORDS: Final = {
    "email": "email mail e-mail",
    "phone": "phone telephone mobile msisdn",
    "url": "url link uri website webpage",
    "datetime": "datetime timestamp when",
    "date": "date birthday dob deadline checkin checkout",
    "weekday": "weekday",
    "day": "day",
    "month": "month",
    "time": "time clock hour",
    "duration": "duration length minutes seconds hours",
    "currency": "currency currencies",
    "organization": """company organization organisation employer brand airline bank business vendor supplier merchant
        manufacturer firm charity club foundation institution agency""",
    "amount": """amount bill payment deposit income price budget cost sum salary fee total balance value rent
        fare charge""",
    "identifier": """id identifier code number reference ref tracking confirmation sku iban pin serial plate digits
        ticker symbol isbn barcode uuid zip postcode zipcode postal""",
    "count": """count quantity qty people guests passengers persons nights party size adults children copies limit
        seats tickets servings portions diners copies""",
    "language": "language lang locale",
    "color": "color colour",
    "creator": "artist author band singer director composer creator writer",
    "person": """person recipient contact attendee attendees guest passenger customer employee patient doctor
        colleague friend candidate assignee sender payee beneficiary participant participants invitee
        invitees pupil child visitor tenant neighbor neighbour player nurse relative coach trainer instructor
        therapist lecturer technician resident holder member manager
        teacher student receiver owner driver stylist agent participant beneficiary
        whom who""",
    "place": """city town place address destination origin country airport station region area venue street location
        state pickup dropoff county village port stop museum branch neighborhood restaurant hotel cafe store
        shop clinic hospital pharmacy gym theater theatre cinema bar office""",
    "text": """text message body content note notes memo comment comments reason feedback review complaint issue
        problem details explanation instructions request statement greeting caption memo phrase sentence""",
    "query": "query search keyword keywords term terms topic question q about",
    "title": """title song track movie film book album show podcast playlist episode game recipe subject name
        headline label task todo event reminder program channel""",
}  # fmt: skip
_KIND_OF: Final = {stem(word): kind for kind, words in _KIND_WORDS.items() for word in words.split()}
_ROLE_WORDS: Final = {
    "from": "from pickup origin source departure depart start begin beginning old sender departing base current",
    "to": """to dropoff destination dest target end arrival arrive new recipient into until finish payee
        beneficiary""",
    "min": "min minimum least lowest low above",
    "max": "max maximum most highest high below under budget",
}
_ROLE_OF: Final = {stem(word): role for role, words in _ROLE_WORDS.items() for word in words.split()}
_PARTIES: Final = frozenset({"recipient", "sender", "receiver", "payee", "beneficiary"})
_HEADLINES: Final = frozenset({"title", "subject", "headline"})
# A description says "to" and "current" for many reasons; only these words of it name a side.
_SPOKEN_SIDES: Final = stemmed_words(
    """origin source departure sender destination target arrival recipient payee beneficiary"""
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value to fill.

    Attributes:
        path: keys from the top of the arguments to this value.
        types: JSON types it may have, without "null".
        kind: what it holds ("place", "person", "date", "text", …; "thing" when nothing tells).
        role: "from", "to", "min", "max" or "" where its name says on which side of something it stands.
        needed_inside: whether its own object, which may be optional, cannot do without it.
        words: stems of the name; ``hints``: of the description too.
    """

    path: tuple[str, ...]
    types: frozenset[str]
    required: bool
    nullable: bool
    schema: JsonObject = field(hash=False)
    description: str
    kind: str
    role: str
    words: tuple[str, ...]
    hints: tuple[str, ...]
    enum: tuple[Any, ...] = ()
    needed_inside: bool = False
    items: "Parameter | None" = None
    fields: tuple["Parameter", ...] = ()

    @property
    def name(self) -> str:
        return self.path[-1] if self.path else ""

    @property
    def has_default(self) -> bool:
        return "default" in self.schema

    @property
    def format(self) -> str:
        return str(self.schema.get("format", ""))

    def accepts(self, *types: str) -> bool:
        return bool(self.types & set(types))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function tool: its name, what it says of itself, and its parameters in the order of the schema."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def required(self) -> tuple[Parameter, ...]:
        return tuple(p for p in self.parameters if p.required)


def read_tool(definition: Mapping[str, Any]) -> Tool:
    """A tool from its definition in the session; a schema that makes no sense has no parameters."""
    schema = definition.get("parameters")
    root = schema if isinstance(schema, dict) else {}
    parameters = tuple(_properties(root, root, (), needed=True, depth=0))[:_MOST_PARAMETERS]
    return Tool(str(definition.get("name", "")), str(definition.get("description") or ""), parameters)


def _resolve(schema: Any, root: JsonObject, depth: int = 0) -> tuple[JsonObject, bool]:
    """The schema without references and unions, and whether null is allowed."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return {}, False
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = root
        for key in reference[2:].split("/"):
            target = target.get(key, {}) if isinstance(target, dict) else {}
        resolved, nullable = _resolve(target, root, depth + 1)
        return {**resolved, **{k: v for k, v in schema.items() if k != "$ref"}}, nullable
    for union in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(union)
        if not isinstance(branches, list) or not branches:
            continue
        resolved_branches = [_resolve(branch, root, depth + 1) for branch in branches]
        solid = [branch for branch, _ in resolved_branches if branch.get("type") != "null"]
        nullable = len(solid) < len(resolved_branches) or any(null for _, null in resolved_branches)
        rest = {k: v for k, v in schema.items() if k != union}
        return {**_merged(solid, every=union == "allOf"), **rest}, nullable
    types = schema.get("type")
    if isinstance(types, list):
        solid_types = [t for t in types if t != "null"]
        return {**schema, "type": solid_types[0] if len(solid_types) == 1 else solid_types}, "null" in types
    enum = schema.get("enum")
    return schema, isinstance(enum, list) and None in enum


def _merged(branches: list[JsonObject], *, every: bool) -> JsonObject:
    """One schema for a union: all the enum values and types of its branches; for allOf all their keywords."""
    if not branches:
        return {}
    if every or len(branches) == 1:
        return {key: value for branch in branches for key, value in branch.items()}
    constants = [v for b in branches for v in (b.get("enum") or ([b["const"]] if "const" in b else []))]
    types = sorted({t for b in branches for t in _types(b)})
    merged = {**branches[0], "type": types}
    if constants and all("enum" in b or "const" in b for b in branches):
        merged = {k: v for k, v in merged.items() if k != "const"} | {"enum": constants}
    return merged


def _types(schema: JsonObject) -> frozenset[str]:
    declared = schema.get("type")
    if isinstance(declared, str):
        return frozenset((declared,))
    if isinstance(declared, list):
        return frozenset(t for t in declared if isinstance(t, str) and t != "null")
    if "properties" in schema:
        return frozenset(("object",))
    if "items" in schema:
        return frozenset(("array",))
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return frozenset(names.get(type(v), "string") for v in values if v is not None) or frozenset(("string",))


def _properties(
    schema: JsonObject, root: JsonObject, path: tuple[str, ...], *, needed: bool, depth: int
) -> Iterator[Parameter]:
    """The leaves under an object; the leaves of an optional object are optional."""
    resolved, _ = _resolve(schema, root)
    properties = resolved.get("properties")
    if not isinstance(properties, dict) or depth > _DEEPEST:
        return
    listed = resolved.get("required")
    required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    for name, declared in properties.items():
        inner, nullable = _resolve(declared, root)
        must = needed and name in required
        if "object" in _types(inner) and isinstance(inner.get("properties"), dict):
            yield from _properties(inner, root, (*path, name), needed=must and not nullable, depth=depth + 1)
        else:
            yield _parameter(
                inner, root, (*path, name), required=must, nullable=nullable, depth=depth, inside=name in required
            )


def _parameter(
    schema: JsonObject,
    root: JsonObject,
    path: tuple[str, ...],
    *,
    required: bool,
    nullable: bool,
    depth: int,
    inside: bool = False,
) -> Parameter:
    types = _types(schema)
    description = str(schema.get("description") or schema.get("title") or "")
    spoken = [w for key in path for w in split_name(key)]
    enum = schema.get("enum")
    values = tuple(v for v in enum if v is not None) if isinstance(enum, list) else ()
    items = None
    fields: tuple[Parameter, ...] = ()
    if "array" in types and depth <= _DEEPEST:
        inner, _ = _resolve(schema.get("items"), root)
        fields = tuple(_properties(inner, root, (), needed=True, depth=depth + 1))
        items = _parameter(inner, root, path, required=True, nullable=False, depth=depth + 1)
    return Parameter(
        path=path, types=types, required=required, nullable=nullable, schema=schema, description=description,
        kind=_of_number(_kind(path[-1], spoken, schema, description, types), types),
        role=_role(_own_words(path), description),
        words=tuple(stem(w) for w in spoken), hints=tuple(dict.fromkeys([*map(stem, spoken), *stems(description)])),
        enum=values, needed_inside=inside, items=items, fields=fields,
    )  # fmt: skip


def _kind(name: str, spoken: list[str], schema: JsonObject, description: str, types: frozenset[str]) -> str:
    by_format = {
        "date": "date", "time": "time", "date-time": "datetime", "email": "email", "idn-email": "email", "uri": "url",
        "url": "url", "duration": "duration",
    }.get(str(schema.get("format", "")))  # fmt: skip
    if by_format:
        return by_format
    own = split_name(name)
    if types <= {"string", "array"} and (formed := _formed(schema, description)):
        return formed
    if (
        len(own) == 1
        and own[0] in {"to", "recipient", "for"}
        and re.search(r"\b(?:recipient|contact|person|whom|name of|name or)", description, re.IGNORECASE)
    ):
        return "person"
    if own[-1:] == ["at"] or own[-2:] == ["date", "time"]:
        return "datetime"
    exact = {"phone", "telephone", "email", "url", "currency", "language"} & set(own)
    for word in exact or reversed(own):
        kind = _KIND_OF.get(stem(word))
        if kind is None:
            continue
        if kind in {"date", "time"} and re.search(
            r"date and time|datetime|date-time|T\d\d:", description, re.IGNORECASE
        ):
            return "datetime"
        if kind == "title" and word == "name":
            return _name_kind([w for w in spoken if w != "name"], description)
        if (
            kind in {"duration", "amount", "count"}
            and types == {"string"}
            and word in {"length", "value", "size", "limit", "total"}
        ):
            continue
        if (
            kind == "title"
            and word in _HEADLINES
            and re.search(r"\b(?:problem|issue|fault|complaint|incident|trouble|defect)\b", description, re.IGNORECASE)
        ):
            return "text"
        if kind == "text" and word in {"issue", "problem", "request"}:
            return "text"
        return kind
    if types == {"string"} and re.match(
        r"\s*(?:the )?(?:(?!phone|telephone|house)[\w'-]+ ){0,2}(?:number|code|digits)\b", description, re.IGNORECASE
    ):
        return "identifier"
    asks = re.match(r"\s*(where|who|whom)\b", description, re.IGNORECASE)
    if asks:
        return "place" if asks[1].lower() == "where" else "person"
    opening = stems(re.split(r"[.;(]|e\.g|such as|like", description, maxsplit=1)[0])
    for word in reversed(opening):
        kind = _KIND_OF.get(word)
        if kind is not None and kind not in {"count", "title", "identifier", "day", "time", "amount"}:
            return "query" if kind == "query" else kind
        if kind == "identifier" and word in {"id", "cod", "identifier"}:
            return kind
    return "title" if re.match(r"\s*(?:the )?(?:full )?name of\b", description, re.IGNORECASE) else "thing"


def _formed(schema: JsonObject, description: str) -> str:
    """The kind that a form of figures in the description or the pattern shows: "HH:MM", "YYYY-MM-DD"."""
    clock = re.search(r"\bHH:MM", description, re.IGNORECASE) is not None
    dated = re.search(r"\bYYYY-MM-DD", description, re.IGNORECASE) is not None
    if clock or dated:
        return "datetime" if clock and dated else "time" if clock else "date"
    pattern = str(schema.get("pattern", ""))
    if "[0-5]" in pattern and ":" in pattern and "T" not in pattern:
        return "time"
    return "date" if re.fullmatch(r"\^?(?:\\d|\[0-9\])\{4\}-\S+-\S+", pattern) else ""


def _of_number(kind: str, types: frozenset[str]) -> str:
    """The kind where only a number fits: `passengers: integer` counts people, it does not name them."""
    if types <= {"integer", "number"} and types:
        return {
            "month": "thing",
            "weekday": "thing",
            "person": "count",
            "title": "count",
            "place": "thing",
            "text": "thing",
            "query": "thing",
        }.get(kind, kind)
    return kind


def _name_kind(others: list[str], description: str) -> str:
    """What "name" means: somebody's, unless the words beside it or the description speak of a thing or a place."""
    for word in [*(stem(w) for w in reversed(others)), *stems(description)]:
        kind = _KIND_OF.get(word)
        if kind in {"person", "creator", "place"}:
            return kind
        if kind == "title" and word != "nam":
            return "title"
    if not description and not others:
        return "person"
    return "person" if set(others) & {"full", "first", "last", "sur", "family"} else "title"


def _own_words(path: tuple[str, ...]) -> list[str]:
    """The words that tell the side: what lies inside of a recipient is no destination."""
    outer = [w for key in path[:-1] for w in split_name(key) if w not in _PARTIES]
    return [*outer, *(w for w in split_name(path[-1]))]


def _role(spoken: list[str], description: str) -> str:
    for word in spoken:
        if (role := _ROLE_OF.get(stem(word))) is not None:
            return role
    opening = {stem(w) for w in re.findall(r"[a-z]+", description.lower())[:8]} & _SPOKEN_SIDES
    return _ROLE_OF[opening.pop()] if len(opening) == 1 else ""
