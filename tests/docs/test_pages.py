"""The documentation: its programs run as they are written, its commands and names exist, its links lead somewhere."""

import ast
import asyncio
import importlib
import os
import re
import subprocess
import sys
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.testing import CliRunner

import voicebus
import voicebus.openai_agents
from support.commands import environment
from support.idling import hangs
from support.pages import ROOT, Page, Program, pages
from support.simulator import running_simulator
from voicebus.agents import events
from voicebus_services.cli import app
from voicebus_services.model_simulator.tape import record

PAGES: Final = pages()
# Its programs are tests, which tests/testing/test_page.py runs.
PROGRAMS: Final = [program for page in PAGES if page.path != "docs/testing.md" for program in page.programs()]
RUN: Final = [program for program in PROGRAMS if not program.compiled_only]


def _where(program: Program) -> str:
    return f"{program.page}:{program.line}"


async def run_program(program: Path, env: Mapping[str, str]) -> str:
    """What the program prints, run in its folder; fails where it does not end well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", program.name, cwd=program.parent, env=env,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ended = asyncio.ensure_future(process.communicate(b"What does a room cost for three nights?\n"))
    hung = asyncio.ensure_future(hangs(process.pid))
    try:
        await asyncio.wait({ended, hung}, return_when=asyncio.FIRST_COMPLETED)
        stuck = not ended.done()
    finally:
        hung.cancel()
        if process.returncode is None:
            process.kill()
        out, err = await ended
    assert not stuck, f"{program.name} does nothing and does not end; it printed:\n{out.decode()}\n{err.decode()}"
    assert process.returncode == 0, f"{program.name} failed:\n{out.decode()}\n{err.decode()[-3000:]}"
    return out.decode()


def _environment(url: str) -> dict[str, str]:
    # Nothing of this process's own settings; the model is the simulator.
    return environment(model_url=url, model_api_key="simulator")


@pytest.mark.timeout(300)  # of a program that computes for ever; one that hangs is noticed by what it does
@pytest.mark.parametrize("program", RUN, ids=map(_where, RUN))
async def test_programs_of_the_pages_run_as_written(program: Program, tmp_path: Path) -> None:
    for other in Page(program.page).programs():
        (tmp_path / other.name).write_text(other.text, encoding="utf-8")
    with wave.open(str(tmp_path / "question.wav"), "wb") as sound:  # for those that speak
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        sound.writeframes(record("What does a room cost for three nights?"))
    async with running_simulator() as simulator:
        printed = await run_program(tmp_path / program.name, _environment(simulator.url))
    if program.prints is not None:
        assert printed == program.prints


@pytest.mark.parametrize("program", PROGRAMS, ids=map(_where, PROGRAMS))
def test_programs_that_cannot_run_here_are_python_all_the_same(program: Program) -> None:
    compile(program.text, program.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_programs_import_only_what_exists() -> None:
    missing = []
    for program in PROGRAMS:
        for node in ast.walk(ast.parse(program.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "voicebus":
                module = importlib.import_module(str(node.module))
                missing += [(_where(program), name.name) for name in node.names if not hasattr(module, name.name)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_links_lead_somewhere(page: Page) -> None:
    broken = []
    for link in page.links():
        path, _, anchor = link.partition("#")
        target = (ROOT / page.path).parent / path if path else ROOT / page.path
        if not target.exists() or (anchor and anchor not in Page(str(target.resolve().relative_to(ROOT))).anchors()):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_yaml_is_yaml(page: Page) -> None:
    for block in page.blocks("yaml"):
        assert list(yaml.safe_load_all(block))


def help_of(*words: str) -> str:
    """What `voicebus WORDS --help` prints; in this process, as there are many of them."""
    ran = CliRunner().invoke(app, [*words, "--help"])
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_commands_have_the_options_that_the_pages_give_them() -> None:
    lines = {
        line.split("#")[0].strip()
        for page in PAGES
        for language in ("sh", "console")
        for block in page.blocks(language)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines()
    }
    calls = [re.sub(r"^(\$ )?(\w+=\S+ )*", "", line).split() for line in lines]
    used = [call for call in calls if call[:1] == ["voicebus"] and len(call) > 1]
    assert used
    told: dict[tuple[str, ...], str] = {(name,): help_of(name) for name in sorted({call[1] for call in used})}

    def command_of(call: list[str]) -> tuple[str, ...]:
        """A command of its own, or one of a group's, which the group's help lists."""
        group = "COMMAND [ARGS]" in told[call[1],] and len(call) > 2 and not call[2].startswith("-")
        return (call[1], call[2]) if group else (call[1],)

    for words in sorted({command_of(call) for call in used} - told.keys()):
        told[words] = help_of(*words)
    unknown = [
        f"voicebus {' '.join(command_of(call))} {word}"
        for call in used
        for word in call[2:]
        if word.startswith("--") and not re.search(rf"{re.escape(word)}\s", told[command_of(call)])
    ]
    assert unknown == []


def test_the_table_of_events_has_every_event_and_every_field() -> None:
    page = Page("docs/guide/events.md").text
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    expected = {_event_type(kind): _fields(kind) for kind in events.RealtimeSessionEvent.__args__}
    assert sorted(rows) == sorted(expected)
    assert {name: sorted(re.findall(r"`(\w+)`", cell)) for name, cell in rows.items()} == expected


def _event_type(kind: Any) -> str:
    return str(kind.__dataclass_fields__["type"].default)


def _fields(kind: Any) -> list[str]:
    return sorted(set(kind.__dataclass_fields__) - {"type", "info", "seq"})


def test_the_table_of_imports_names_what_is_exported() -> None:
    page = Page("docs/migration.md").text
    rows = re.findall(r"^\| `from agents\S* import[^|]*\| `from (voicebus\S*) import ([^`]+)`", page, re.MULTILINE)
    assert len(rows) > 5
    for module, names in rows:
        source = importlib.import_module(module)
        lacking = [name for name in re.split(r",\s*", names.strip()) if not hasattr(source, name)]
        assert lacking == [], module


async def test_a_program_that_hangs_is_told_from_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.idling.IDLE_LOOKS", 4)
    slow, hanging = tmp_path / "slow.py", tmp_path / "hanging.py"
    # Busy for longer than the looks that a sleeping one is given.
    slow.write_text("import time\nwhile time.process_time() < 2: pass\nprint('done')", encoding="utf-8")
    hanging.write_text("print('begun', flush=True)\nimport threading\nthreading.Event().wait()", encoding="utf-8")
    assert await run_program(slow, environment()) == "done\n"
    with pytest.raises(AssertionError, match=r"hanging.py does nothing and does not end; it printed:\s+begun"):
        await run_program(hanging, environment())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("example", ["in_process"])
async def test_examples_run(example: str) -> None:
    async with running_simulator() as simulator:
        env = {**_environment(simulator.url), "PYTHONPATH": os.fspath(ROOT)}
        printed = await run_program(ROOT / "examples" / f"{example}.py", env)
    assert "3 nights cost 360 euros." in printed


def test_every_public_name_of_the_pages_exists() -> None:
    """Names of our classes in running text, which no import checks."""
    named = {
        (page.path, name)
        for page in PAGES
        if page.path not in ("docs/parity.md", "docs/migration.md")
        for name in re.findall(r"`(Realtime\w+|OpenAIRealtime\w+|\w*Guardrail\w*|MCP\w+|HostedMCPTool)\b", page.text)
    }
    from voicebus import testing
    from voicebus.agents import mcp

    unknown = [
        (page, name) for page, name in sorted(named) if not any(hasattr(m, name) for m in (voicebus, testing, mcp))
    ]
    assert unknown == []


def test_a_program_of_openai_agents_changes_its_imports_and_nothing_else() -> None:
    before, after = Page("docs/migration.md").programs()
    imports = re.compile(r"^(from (agents|voicebus)\S* import .*\n)+|^# \w+\.py\n", re.MULTILINE)
    assert imports.sub("", before.text) == imports.sub("", after.text)
    assert "voicebus" not in before.text
    assert "agents" not in after.text


def test_the_line_that_changes_all_imports_leaves_a_program_whose_names_exist(tmp_path: Path) -> None:
    (expression,) = re.findall(r"^sed -i -E '(.+)' \*\.py$", Page("docs/migration.md").text, re.MULTILINE)
    before, _ = Page("docs/migration.md").programs()
    program = tmp_path / "before.py"
    program.write_text(
        f"{before.text}\n"
        "def later() -> None:\n"
        "    from agents.realtime.model_events import RealtimeModelAudioEvent\n"
        "    from agents.tool_context import ToolContext\n"
        "    from .agents import mine\n"
    )
    subprocess.run(["sed", "-i", "-E", expression, program], check=True)
    imports = [node for node in ast.walk(ast.parse(program.read_text())) if isinstance(node, ast.ImportFrom)]
    assert [node.names[0].name for node in imports if node.level] == ["mine"]
    taken = [name.name for node in imports if node.module == "voicebus.openai_agents" for name in node.names]
    assert {"RealtimeModelAudioEvent", "RealtimeRunner", "ToolContext", "function_tool"} <= set(taken)
    assert [name for name in taken if not hasattr(voicebus.openai_agents, name)] == []
    assert "from agents" not in program.read_text()
