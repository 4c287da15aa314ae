"""Validate recorded events: JSON lines `[direction, event]` on stdin, direction `client` or `server`.

Prints `{"checked": {direction: {type: count}}, "wrong": [[direction, type, why, event], …]}`.
"""

import json
import sys
from collections import defaultdict
from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import TypeAdapter, ValidationError

ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "client": TypeAdapter(RealtimeClientEvent),
    "server": TypeAdapter(RealtimeServerEvent),
}


def main() -> None:
    checked: dict[str, dict[str, int]] = {name: defaultdict(int) for name in ADAPTERS}
    wrong: list[Any] = []
    for line in sys.stdin:
        direction, event = json.loads(line)
        checked[direction][event["type"]] += 1
        try:
            # Unions of the package are told apart by `type`; an unknown one is an error as well.
            ADAPTERS[direction].validate_python(event)
        except ValidationError as error:
            wrong.append([direction, event["type"], str(error)[:2000], event])
    json.dump({"checked": checked, "wrong": wrong}, sys.stdout)
    sys.stdout.write("\n")


main()
