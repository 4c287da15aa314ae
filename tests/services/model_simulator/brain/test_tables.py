"""Utterances over tools the brain knows nothing of beforehand: it must pick the tool and fill all arguments exactly.

The tables hold tools and utterances; no code is keyed to their words. They were written one after the other, each over
tools of other domains than the ones before.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.brains import BrainContext, Call, Meaning, Output, Say
from voicebus_services.model_simulator.speech import SentenceMeaning

TODAY = date(2026, 11, 23)
TABLES = sorted(Path(__file__).parent.glob("*_table.yaml"))
NEEDED = 36


def heard(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": text}]}


def wanted_of(row: list[Any]) -> list[tuple[str, Any]]:
    return list(zip(row[1::2], row[2::2], strict=True))


def is_right(outputs: tuple[Output, ...], wanted: list[tuple[str, Any]]) -> bool:
    if wanted[0][0] == "chat":
        return all(isinstance(output, Say) for output in outputs)
    if wanted[0][0] == "ask":
        return len(outputs) == 1 and isinstance(outputs[0], Say) and wanted[0][1] in outputs[0].text.lower()
    return [(o.name, json.loads(o.arguments)) for o in outputs if isinstance(o, Call)] == wanted and all(
        isinstance(o, Call) for o in outputs
    )


@pytest.fixture(scope="module", params=["words alone", pytest.param("meaning too", marks=pytest.mark.speech)])
def meaning(request: pytest.FixtureRequest) -> Meaning | None:
    if request.param == "words alone":
        return None
    model = SentenceMeaning()
    model.load_now()
    return model


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_at_least_36_of_40_utterances_give_the_right_calls(path: Path, meaning: Meaning | None) -> None:
    table = yaml.safe_load(path.read_text())
    tools = tuple({"type": "function", **tool} for tool in table["tools"])
    assert (len(tools), len(table["rows"])) == (10, 40)
    brain = ToolPickingBrain(lambda: TODAY, meaning)
    wrong = []
    for row in table["rows"]:
        outputs = brain.decide(BrainContext("", tools, "auto", (heard(row[0]),)))
        if not is_right(outputs, wanted_of(row)):
            wrong.append(f"{row[0]}\n    wanted {wanted_of(row)}\n    got    {outputs}")
    assert len(table["rows"]) - len(wrong) >= NEEDED, "\n".join(wrong)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_transcript_without_capitals_and_punctuation_still_finds_the_tool(path: Path) -> None:
    table = yaml.safe_load(path.read_text())
    tools = tuple({"type": "function", **tool} for tool in table["tools"])
    brain = ToolPickingBrain(lambda: TODAY)
    wrong = []
    for row in table["rows"]:
        bare = row[0].lower().translate(str.maketrans("", "", '?!;"')).rstrip(".")
        outputs = brain.decide(BrainContext("", tools, "auto", (heard(bare),)))
        names = [o.name for o in outputs if isinstance(o, Call)] or ["chat"]
        if names[0] != wanted_of(row)[0][0]:
            wrong.append(f"{bare}: {outputs}")
    assert len(table["rows"]) - len(wrong) >= NEEDED, "\n".join(wrong)
