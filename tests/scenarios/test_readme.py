"""The README's first agent, tried line by line."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from support.commands import ROOT, voicebus
from support.developing import developing

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]

README: Final = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The README's code block of this language that contains this text."""
    for tongue, found in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if tongue == language and containing in found:
            return str(found)
    raise AssertionError(f"the README has no {language} block with {containing!r}")


async def test_the_first_agent_answers_as_the_readme_says(tmp_path: Path) -> None:
    agent = block("python", "hotel.py")
    assert len([line for line in agent.splitlines() if line.strip()]) <= 15
    (tmp_path / "hotel.py").write_text(agent, encoding="utf-8")
    commands = block("sh", "voicebus dev hotel")
    question = re.search(r'voicebus call --text "(.*)"', commands)
    assert question is not None
    async with developing("hotel", "--no-speech", cwd=tmp_path) as dev:
        ran = await voicebus("call", "--text", question[1], "--url", dev.url, cwd=tmp_path)
        assert ran.status == 0, ran.err
        said = ran.out.splitlines()
        expected = block("", "session 01").splitlines()
        assert said[:3] == expected[:3]
        assert re.fullmatch(r"session \S+ ended ended", said[3])

        as_json = await voicebus("call", "--text", question[1], "--url", dev.url, "--json", cwd=tmp_path)
        events = [json.loads(line) for line in as_json.out.splitlines()]
        assert events[0]["type"] == "session_started"
        assert events[-1]["type"] == "session_ended"

        typed = await voicebus("call", "--url", dev.url, cwd=tmp_path, stdin=question[1] + "\n")
        assert typed.out.splitlines()[:3] == expected[:3]

        spoken = tmp_path / "answer.wav"
        assert (await voicebus("call", "--text", "hello", "--url", dev.url, "--out", str(spoken))).status == 0
        assert spoken.read_bytes()[:4] == b"RIFF"


def test_every_file_that_the_readme_links_to_exists() -> None:
    missing = [
        link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link and not (ROOT / link).exists()
    ]
    assert missing == []


async def test_the_readme_lists_every_command() -> None:
    listed = (await voicebus("--help")).out.partition("Commands:\n")[2].partition("\n\n")[0]
    commands = [line.split()[0] for line in listed.splitlines()]
    assert [
        command for command in commands if f"voicebus {command}" not in README and f"`{command}" not in README
    ] == []
