"""The end of the quickstart: its module served by `voicebus dev`, spoken to with `voicebus call`."""

import re
from pathlib import Path

import pytest

from support.commands import voicebus
from support.developing import developing
from support.pages import Page

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]


async def test_the_module_of_the_quickstart_answers_in_the_cluster_as_it_says(tmp_path: Path) -> None:
    page = Page("docs/quickstart.md")
    (module,) = [program for program in page.programs() if program.name == "hotel.py"]
    (tmp_path / "hotel.py").write_text(module.text, encoding="utf-8")
    (commands,) = [block for block in page.blocks("sh") if "voicebus dev hotel" in block]
    question = re.search(r'voicebus call --text "(.*)"', commands)
    assert question is not None
    (said,) = [block for block in page.blocks("console") if "session 01" in block]
    async with developing("hotel", "--no-speech", cwd=tmp_path) as dev:
        ran = await voicebus("call", "--text", question[1], "--url", dev.url, cwd=tmp_path)
        assert (ran.status, ran.out.splitlines()[:-1]) == (0, said.splitlines()[:-1]), ran.err
        porter = await voicebus("call", "--agent", "porter", "--text", "Order a taxi to the opera.", "--url", dev.url)
        assert "book_taxi" in porter.out
        # A worker or a command in another terminal needs the cluster's Redis, whose port is any free one.
        redis_url = re.search(r"^VOICEBUS_REDIS_URL=(\S+)$", dev.said, re.MULTILINE)
        assert redis_url is not None
        tools = await voicebus("tools", "--redis-url", redis_url[1], cwd=tmp_path)
        assert "room_price  queue default  version 1  1 worker\n" in tools.out, tools.err


async def test_the_first_test_of_the_quickstart_passes_and_prints_what_it_says(tmp_path: Path) -> None:
    page = Page("docs/quickstart.md")
    (module,) = [program for program in page.programs() if program.name == "hotel.py"]
    (tmp_path / "hotel.py").write_text(module.text, encoding="utf-8")
    (scenario,) = page.blocks("yaml")
    (tmp_path / "price.scenario.yaml").write_text(scenario, encoding="utf-8")
    (command,) = [block.split() for block in page.blocks("sh") if "voicebus test" in block]
    (printed,) = [block for block in page.blocks("console") if "1 scenario: ok" in block]
    ran = await voicebus(*command[1:], cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert re.sub(r"\d+ ms", "", ran.out) == re.sub(r"\d+ ms", "", printed)
    assert 'tests="1" failures="0"' in (tmp_path / "report.xml").read_text(encoding="utf-8")
