"""The end of the quickstart: its module served by `voicebus dev`, spoken to with `voicebus call`."""

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from support.commands import environment, voicebus
from support.pages import Page
from voicebus_services.dev.processes import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]


async def test_the_module_of_the_quickstart_answers_in_the_cluster_as_it_says(tmp_path: Path) -> None:
    page = Page("docs/quickstart.md")
    (module,) = [program for program in page.programs() if program.name == "hotel.py"]
    (tmp_path / "hotel.py").write_text(module.text, encoding="utf-8")
    (commands,) = [block for block in page.blocks("sh") if "voicebus dev hotel" in block]
    question = re.search(r'voicebus call --text "(.*)"', commands)
    assert question is not None
    (said,) = [block for block in page.blocks("console") if "session 01" in block]
    port = free_port()
    dev = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebus_services.cli", "dev", "hotel", "--http-port", str(port),
        "--archiver-port", "0", "--simulator-port", "0", "--ops-port", "0", "--no-speech",
        cwd=tmp_path, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert dev.stdout is not None
        async with asyncio.timeout(90):
            began = ""
            while "serving: " not in began:
                line = (await dev.stdout.readline()).decode()
                assert line, "voicebus dev ended"
                began += line
        url = f"http://127.0.0.1:{port}"
        ran = await voicebus("call", "--text", question[1], "--url", url, cwd=tmp_path)
        assert (ran.status, ran.out.splitlines()[:-1]) == (0, said.splitlines()[:-1]), ran.err
        porter = await voicebus("call", "--agent", "porter", "--text", "Order a taxi to the opera.", "--url", url)
        assert "book_taxi" in porter.out
        # A worker or a command in another terminal needs the cluster's Redis, whose port is any free one.
        redis_url = re.search(r"^VOICEBUS_REDIS_URL=(\S+)$", began, re.MULTILINE)
        assert redis_url is not None
        tools = await voicebus("tools", "--redis-url", redis_url[1], cwd=tmp_path)
        assert "room_price  queue default  version 1  1 worker\n" in tools.out, tools.err
    finally:
        dev.send_signal(signal.SIGINT)
        await dev.wait()


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
