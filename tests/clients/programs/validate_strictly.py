"""Checks server events of the Realtime protocol against the types of the `openai` package, more strictly than it does.

JSON lines on stdin, one server event each; one line per finding on stdout; exits 1 if there was any. An unknown type, a
missing or mistyped field, and a field that no type knows are all findings.
"""

import json
import sys
import typing
from collections.abc import Iterator

from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter, ValidationError

# Fields that the service sends and the package's types leave out.
_KNOWN_BESIDES = {
    "session.created": {"session.id", "session.object", "session.expires_at"},
    "session.updated": {"session.id", "session.object", "session.expires_at"},
}


def _classes() -> dict[str, type[BaseModel]]:
    union = typing.get_args(RealtimeServerEvent)[0]
    return {typing.get_args(cls.model_fields["type"].annotation)[0]: cls for cls in typing.get_args(union)}


def _extras(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}{name}"
        for name in value.model_fields_set - set(value.model_extra or {}):
            yield from _extras(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, list):
        for entry in value:
            yield from _extras(entry, path)


def findings(event: dict[str, object], classes: dict[str, type[BaseModel]]) -> Iterator[str]:
    kind = str(event.get("type"))
    cls = classes.get(kind)
    if cls is None:
        yield f"{kind}: no such server event"
        return
    try:
        parsed = TypeAdapter(cls).validate_json(json.dumps(event), strict=True)
    except ValidationError as error:
        for report in error.errors():
            yield f"{kind}: {'.'.join(str(part) for part in report['loc'])}: {report['msg']}"
        return
    for extra in _extras(parsed):
        if extra not in _KNOWN_BESIDES.get(kind, set()):
            yield f"{kind}: {extra}: no such field"


def main() -> int:
    classes = _classes()
    count = wrong = 0
    for line in filter(str.strip, sys.stdin):
        count += 1
        for finding in findings(json.loads(line), classes):
            wrong += 1
            print(finding)
    print(f"{count} events, {wrong} findings", file=sys.stderr)
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
