"""What programs import from openai-agents is here under the same name, and takes whatever it takes there.

Compared are, over both packages as they are installed, the names of its realtime part and those that both have: the
parameters, their order, kinds and defaults; fields, keys and methods; what is async and what must be overridden; what
an exception is caught as. Ours may take more.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from support.programs import json_of
from support.real_clients import ENVIRONMENT, PROGRAMS

# The first test of a fresh clone installs the clients.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

THEIRS: Final = ("agents", "agents.realtime", "agents.decorators", "agents.testing")
OURS: Final = ("voicebus", "voicebus.testing")

# Names of both packages that are something else on purpose, or only share a name.
NOT_COMPARED: Final = {
    "Agent": "runs text models here, for tools",
    "ModelSettings": "of text agents",
    "RunResult": "of text agents",
    "MaxTurnsExceeded": "of text agents",
    "InputGuardrail": "theirs is of text agents, and has no place in a realtime session",
    "input_guardrail": "as its class",
    "function_call": "theirs is a step of text models' scripts",
    "RealtimeScriptError": "raised by us",
    "UnexpectedRealtimeSend": "raised by us",
    "UnconsumedRealtimeSteps": "raised by us",
}
# Parts of what is compared that differ on purpose: docs/migration.md and docs/parity.md say so.
LEFT_OUT: Final[Mapping[str, set[str]]] = {
    "FunctionTool": {"defer_loading", "custom_data_extractor", "allowed_callers", "output_json_schema",
                     "mcp_annotations"},
    "RunContextWrapper": {"turn_input", "tool_input", "approve_tool", "reject_tool", "is_tool_approved",
                          "get_approval_status", "get_rejection_message"},
    "ToolContext": {"turn_input", "approve_tool", "reject_tool", "is_tool_approved", "get_approval_status",
                    "get_rejection_message"},
}  # fmt: skip


async def surface(python: Path | str, modules: Sequence[str]) -> dict[str, Any]:
    command = [str(python), str(PROGRAMS / "surface.py"), *modules]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    shown: dict[str, Any] = await json_of(command, "surface", env=kept, timeout_s=50)
    return shown


def refused(theirs: Sequence[Sequence[Any]], ours: Sequence[Sequence[Any]]) -> list[str]:
    """Why a call that theirs takes would not be one of ours, by parameters `(name, kind, default)`."""
    mine = {name: (kind, given) for name, kind, given in ours}
    takes_any = any(kind == "VAR_KEYWORD" for _, kind, _ in ours)
    complaints = []
    by_place = [name for name, kind, _ in theirs if kind == "POSITIONAL_OR_KEYWORD"]
    if not any(kind == "VAR_POSITIONAL" for _, kind, _ in ours):
        places = [name for name, kind, _ in ours if kind == "POSITIONAL_OR_KEYWORD"][: len(by_place)]
        if places != by_place:
            complaints.append(f"takes {places} by position, not {by_place}")
        for name, kind, given in theirs:
            if kind.startswith("VAR") or name.startswith("_") or (name not in mine and takes_any):
                continue
            if name not in mine:
                complaints.append(f"does not take {name}")
            elif given is not None and mine[name][1] != given:
                complaints.append(f"{name} is {mine[name][1]} by default, not {given}")
    known = {name for name, _, _ in theirs}
    complaints += [
        f"needs {name}"
        for name, kind, given in ours
        if name not in known and given is None and not kind.startswith("VAR")
    ]
    return complaints


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], left_out: set[str]) -> list[str]:
    """What a program that is written for theirs would miss in ours."""
    found: list[str] = []
    for kind in ("keys", "model"):
        found += [f"has no {name}" for name in sorted(set(theirs.get(kind, ())) - set(ours.get(kind, ())))]
    if "model" in theirs:
        found += [
            f"{name} is {ours['model'].get(name)}, not {made}"
            for name, made in theirs["model"].items()
            if ours["model"].get(name) != made
        ]
        found += [] if ours["extra"] == theirs["extra"] else [f"extra is {ours['extra']}"]
    if "fields" in theirs:

        def taken(shown: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
            kinds = {True: "KEYWORD_ONLY", False: "POSITIONAL_OR_KEYWORD"}
            return [(name, kinds[named], given) for name, named, given in shown.get("fields", ())]

        found += refused([field for field in taken(theirs) if field[0] not in left_out], taken(ours))
    elif "parameters" in theirs:
        found += refused(theirs["parameters"], ours.get("parameters", ()))
    if "value" in theirs and ast.literal_eval(theirs["value"]) != ast.literal_eval(ours["value"]):
        found.append(f"is {ours['value']}, not {theirs['value']}")
    if "async" in theirs and theirs["async"] != ours.get("async"):
        found.append("is async in one of the two only")
    for name, method in theirs.get("methods", {}).items():
        if name in left_out:
            continue
        mine = ours.get("methods", {}).get(name)
        if mine is None or method == "property":
            known = {field for field, _, _ in ours.get("fields", ())} | set(ours.get("methods", ()))
            found += [] if name in known else [f"has no {name}"]
        elif mine[:3] != method[:3]:
            found.append(f"{name} is {mine[:3]}, not {method[:3]}")
        else:
            found += [f"{name}: {complaint}" for complaint in refused(method[3], mine[3])]
    return found


@cache
def realtime_names() -> frozenset[str]:
    """All that their realtime part exports."""
    program = "import agents.realtime; print(*agents.realtime.__all__)"
    python = str(ENVIRONMENT / "bin" / "python")
    return frozenset(subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.split())


async def test_every_name_of_the_realtime_part_is_here_and_takes_what_it_takes_there() -> None:
    theirs = await surface(ENVIRONMENT / "bin" / "python", THEIRS)
    ours = await surface(sys.executable, OURS)
    assert sorted(realtime_names() - ours.keys()) == []
    compared = (theirs.keys() & ours.keys()) - NOT_COMPARED.keys()
    assert len(compared) > 100
    found = {name: differences(theirs[name], ours[name], LEFT_OUT.get(name, set())) for name in sorted(compared)}
    assert {name: what for name, what in found.items() if what} == {}


async def test_what_programs_catch_catches_the_same() -> None:
    theirs = await surface(ENVIRONMENT / "bin" / "python", THEIRS)
    ours = await surface(sys.executable, OURS)
    root = {"AgentsException": "VoicebusError"}
    errors = {
        name: [root.get(base, base) for base in shown["bases"][1:] if base in {*theirs, "Exception"}]
        for name, shown in theirs.items()
        if name in ours and "Exception" in shown.get("bases", ()) and name != "AgentsException"
    }
    assert len(errors) > 5
    for name, bases in errors.items():
        assert set(bases) <= set(ours[name]["bases"]), name
