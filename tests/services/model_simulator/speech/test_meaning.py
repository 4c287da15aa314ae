"""The sentence model, and what the brain does with it that words alone do not tell."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest

from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.brains import BrainContext, Call, Meaning, Output, Say
from voicebus_services.model_simulator.speech import SentenceMeaning

pytestmark = pytest.mark.speech


@pytest.fixture(scope="module")
def meaning() -> Meaning:
    model = SentenceMeaning()
    model.load_now()
    return model


def product(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "name": name, "description": description, "parameters": schema}


TOOLS = (
    tool("set_thermostat", "Set the heating of the home.", degrees={"type": "integer"}),
    tool("order_taxi", "Order a taxi.", pickup={"type": "string"}),
    tool("get_vehicle_info", "Tell something about the car.",
         item={"type": "string", "enum": ["battery_level", "tire_pressure", "mileage"]}),
    tool("report_sick", "Tell the employer that somebody is ill."),
)  # fmt: skip


def decide(meaning: Meaning, *texts: str) -> tuple[Output, ...]:
    """The outputs for the last text; what was said before was answered by the brain itself."""
    brain = ToolPickingBrain(lambda: date(2026, 11, 23), meaning)
    items: list[dict[str, Any]] = []
    outputs: tuple[Output, ...] = ()
    for text in texts:
        items.append({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
        outputs = brain.decide(BrainContext("", TOOLS, "auto", tuple(items)))
        items += [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": output.text}]}
            for output in outputs
            if isinstance(output, Say)
        ]
    return outputs


async def test_the_model_is_loaded_once_and_gives_directions_of_length_one() -> None:
    model = SentenceMeaning()
    await model.load()
    await model.load()
    direction = model.embed("What is the weather in Paris?")
    assert len(direction) == 384
    assert product(direction, direction) == pytest.approx(1.0, abs=1e-5)


def test_sentences_that_mean_alike_point_alike(meaning: Meaning) -> None:
    weather, umbrella, invoice = (
        meaning.embed(text) for text in ("Will it rain?", "Do I need an umbrella?", "Please pay the invoice.")
    )
    assert product(weather, umbrella) > product(weather, invoice) + 0.2


def test_a_sentence_longer_than_the_model_reads_is_cut(meaning: Meaning) -> None:
    assert len(meaning.embed("word " * 5_000)) == 384


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("I caught the flu and can't come to work.", "report_sick"),
        ("How far have I driven so far?", "get_vehicle_info"),
        ("I'm freezing in here, make it 23.", "set_thermostat"),
    ],
)
def test_a_request_that_shares_no_word_with_its_tool_still_finds_it(meaning: Meaning, said: str, name: str) -> None:
    (output,) = decide(meaning, said)
    assert isinstance(output, Call)
    assert output.name == name


def test_a_constant_that_is_meant_but_not_named_is_chosen(meaning: Meaning) -> None:
    (output,) = decide(meaning, "Do my wheels need air?")
    assert isinstance(output, Call)
    assert (output.name, json.loads(output.arguments)) == ("get_vehicle_info", {"item": "tire_pressure"})


def test_the_answer_to_a_question_need_not_name_the_constant(meaning: Meaning) -> None:
    question = decide(meaning, "Tell me something about the car.")
    assert isinstance(question[0], Say)
    (output,) = decide(meaning, "Tell me something about the car.", "How far it has gone.")
    assert isinstance(output, Call)
    assert (output.name, json.loads(output.arguments)) == ("get_vehicle_info", {"item": "mileage"})


@pytest.mark.parametrize(
    "said", ["I had such a long day.", "What do you think about politics?", "My kids are so noisy.", "You are funny."]
)
def test_small_talk_calls_no_tool(meaning: Meaning, said: str) -> None:
    assert all(isinstance(output, Say) for output in decide(meaning, said))


def test_two_requests_in_one_sentence_are_two_calls(meaning: Meaning) -> None:
    outputs = decide(meaning, "I'm freezing, make it 23 degrees in here. Also, how many miles have I driven?")
    assert [o.name for o in outputs if isinstance(o, Call)] == ["set_thermostat", "get_vehicle_info"]
