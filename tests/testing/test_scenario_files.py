"""Scenario files: what they may say, and the sentence with file, line, step and field for each thing wrong."""

import sys
from pathlib import Path

import pytest

from voicebus import UserError
from voicebus.errors import ScenarioError
from voicebus.testing import find_scenarios, load_scenarios

WHOLE = """\
name: Everything
agent: desk:runner
settings: {output_modalities: [text]}
context: {member: 7}
within: 3
tools:
  get_weather: {returns: {condition: sunny}}
  book_room:
    raises: no room
steps:
  - say: Hello
  - say_audio: hello.wav
  - say_audio: {file: hello.wav, commit: true}
  - expect_tool: get_weather
  - expect_tool: {name: get_weather, arguments: {city: Paris}, output: null, outcome: ok}
    within: 0.5
  - expect_text: sunny
  - expect_text: {matches: "^It", role: user}
  - expect_handoff: reservations
  - expect_handoff: {from: a, to: b}
  - expect_guardrail: no_card_numbers
  - expect_interruption: true
  - expect_error: busy
  - expect_no: {tool: book_room, for: 0.1}
  - interrupt_after: 100
  - interrupt_after: {ms: 0, of: words}
  - approve: {tool: book_room, always: true}
  - reject: book_room
  - wait: 0.2
"""


# Aliases of aliases: nine values, then nine times nine, and so on.
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]\n" for before, here in ("ab", "bc", "cd", "de", "ef")
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "desk.scenario.yaml"


def complaint(file: Path, text: str | bytes) -> str:
    """What is said of a file with this text, without the file's folder."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(file)
    message = str(caught.value)
    assert message.startswith(str(file)), message
    return message.removeprefix(f"{file.parent}/")


def test_a_file_may_use_every_step(file: Path) -> None:
    file.write_text(WHOLE, encoding="utf-8")
    (scenario,) = load_scenarios(file)
    assert (scenario.name, scenario.agent, scenario.within) == ("Everything", "desk:runner", 3)
    assert scenario.place == (file, 1)
    assert scenario.context == {"member": 7}
    assert scenario.tools["book_room"].raises == "no room"
    assert [step.place[1] for step in scenario.steps][:6] == [11, 12, 13, 14, 15, 17]
    assert [str(step) for step in scenario.steps] == [
        "say Hello",
        "say_audio hello.wav",
        "say_audio hello.wav commit=True",
        "expect_tool get_weather",
        "expect_tool get_weather arguments={'city': 'Paris'} output=None outcome=ok",
        "expect_text sunny",
        "expect_text matches=^It role=user",
        "expect_handoff reservations",
        "expect_handoff b from=a",
        "expect_guardrail no_card_numbers",
        "expect_interruption",
        "expect_error busy",
        "expect_no for=0.1 tool=book_room",
        "interrupt_after 100",
        "interrupt_after 0 of=words",
        "approve book_room always=True",
        "reject book_room",
        "wait 0.2",
    ]
    assert scenario.steps[4].within == 0.5


def test_a_file_may_hold_several_scenarios(file: Path) -> None:
    file.write_text(
        "steps: [{say: a}]\n---\nname: B\nsteps: [{say: b}]\n---\n---\nsteps: [{say: c}]\n", encoding="utf-8"
    )
    scenarios = load_scenarios(file)
    assert [scenario.name for scenario in scenarios] == ["desk", "B", "desk 4"]
    assert [scenario.place[1] for scenario in scenarios] == [1, 3, 7]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps:\n  - say: hi\n  - expect_text:\n      contain: x\n",
         ":4: step 2: expect_text.contain: there is no such field; contains, matches, equals, role are allowed"),
        ("steps:\n  - sya: hi\n", ":2: step 1: sya: there is no such field; say, say_audio, expect_tool, "),
        ("name: x\n", ":1: steps: this field is needed"),
        ("stpes: []\n", ":1: stpes: there is no such field; name, agent, settings, "),
        ("steps:\n  - expect_tool: {tool: x}\n",
         ":2: step 1: expect_tool.tool: there is no such field; name, arguments, "),
        ("name: x\nsteps: [{say: a}]\ntool: {}\n", ":3: tool: there is no such field; name, agent, settings, "),
        ("steps:\n  - say: a\n    wait: 1\n", ":2: step 1: a step is exactly one of say, "),
        ("steps:\n  - within: 1\n", ":2: step 1: a step is exactly one of say, "),
        ("steps:\n  - expect_tool: {arguments: {}}\n", ":2: step 1: expect_tool.name: this field is needed"),
        ("steps:\n  - expect_text:\n      role: user\n", ":2: step 1: expect_text: one of contains, matches and"),
        ("steps:\n  - expect_text:\n      matches: (\n", ":2: step 1: expect_text: matches is no regular expression"),
        ("steps:\n  - expect_no: {for: 1}\n", ":2: step 1: expect_no: one of tool, text, handoff, guardrail and error"),
        ("steps:\n  - wait: soon\n", ":2: step 1: wait: input should be a valid number"),
        ("steps:\n  - wait: -1\n", ":2: step 1: wait: input should be greater than or equal to 0"),
        ("steps:\n  - say: a\n    within: 601\n", ":3: step 1: within: input should be less than or equal to 600"),
        ("steps:\n  - say: 5\n", ":2: step 1: say: 5 was read, but text is allowed; put it in quotes"),
        ("steps: []\n", ":1: steps: list should have at least 1 item"),
        ("steps:\n  - hi\n", ":2: step 1: 'hi' was read, but fields are needed: say, say_audio, "),
        ("tools: {a: 1}\nsteps: [{say: a}]\n", ":1: tools.a: 1 was read, but fields are needed: returns, raises"),
        ("steps:\n  - say:\n", ":2: step 1: a step is exactly one of say, say_audio, expect_tool, expect_text, "
         "expect_handoff, expect_guardrail, expect_interruption, expect_error, expect_no, interrupt_after, approve, "
         "reject, wait; its say is empty"),
        ("tools: {a: {}}\nsteps: [{say: a}]\n", ":1: tools.a: a tool either `returns` something or `raises`"),
        ("steps:\n  - expect_interruption: false\n", ":2: step 1: expect_interruption: input should be true"),
        ("- say: a\n", ":1: a scenario is a mapping with `steps`, not list"),
        ("", ":1: the file holds no scenario"),
        ("steps:\n  - say: a\n  - say: b: c\n", ":3: no YAML: mapping values are not allowed here"),
        ("name: a\nname: b\nsteps: [{say: a}]\n", ":2: 'name' is given twice"),
        ("steps:\n\t- say: a\n", r":2: no YAML: found character '\t' that cannot start any token; indent with spaces"),
        ("steps: [!!python/object/apply:os.system [ls]]\n", ":1: no YAML: could not determine a constructor"),
        (b"steps: \xff\n", ": no YAML: "),
        (LAUGHS, ": holds more than 20000 values"),
        ("x: &x [*x]\nsteps: [{say: a}]\n", ": "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(file: Path, text: str | bytes, sentence: str) -> None:
    assert complaint(file, text).startswith(f"desk.scenario.yaml{sentence}")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.yaml: cannot be read \(No such file"):
        load_scenarios(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"# " + bytes(1024 * 1024))
    with pytest.raises(ScenarioError, match="larger than 1024 KiB"):
        load_scenarios(large)


def test_files_and_folders_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b.scenario.yaml", "a.scenario.yml", "deep/c.scenario.yaml", "other.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("", encoding="utf-8")
    found = find_scenarios([tmp_path / "other.yaml", tmp_path, tmp_path / "b.scenario.yaml"])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["other.yaml", "a.scenario.yml", "b.scenario.yaml", "deep/c.scenario.yaml"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScenarioError, match="the folder holds no scenario"):
        find_scenarios([tmp_path / "empty"])
    with pytest.raises(ScenarioError, match="there is no such file"):
        find_scenarios([tmp_path / "none"])


def test_without_pyyaml_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserError, match=r"install voicebus\[testing\]"):
        load_scenarios(file)
