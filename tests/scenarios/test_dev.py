"""`voicebus dev`: one command, the whole cluster, and nothing left behind."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from support.callers import fetch
from support.commands import ROOT, environment, voicebus
from support.developing import FREE_PORTS, developing
from support.tls import Authority
from support.waiting import wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("cluster")]

STEPS = ["redis", "gateway", "tool-worker", "guardrail-worker", "archiver", "heard", "tool", "answered", "transcript"]


def children_of(pid: int) -> list[int]:
    """Pids of the living children of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_other_terminals_find_the_cluster_by_a_file_that_goes_with_it(tmp_path: Path) -> None:
    async with developing("examples.front_desk", cwd=tmp_path) as dev:
        shell = await asyncio.create_subprocess_exec(
            "sh", "-c", f". .voicebus/env && {sys.executable} -m voicebus_services.cli tools && "
            f"{sys.executable} -m voicebus_services.cli transcripts search",
            cwd=tmp_path, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, told = await shell.communicate()
        assert (shell.returncode, b"get_weather" in out) == (0, True), told.decode()
        assert told == b"voicebus: no such transcript\n"
        dev.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await dev.process.communicate()
    assert not (tmp_path / ".voicebus" / "env").exists()


@pytest.mark.speech
async def test_the_demo_conversation_is_spoken_through_every_service() -> None:
    ran = await voicebus("dev", "--once", *FREE_PORTS, cwd=ROOT, timeout_s=150)
    assert ran.status == 0, ran.out + ran.err[-3000:]
    lines = ran.out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ok ")] == STEPS
    assert all(re.match(r"ok \S+ \d+ ms", line) for line in lines if line.startswith("ok "))
    assert lines[-1] == "demo: ok"
    assert "get_weather" in ran.out
    assert "Paris" in ran.out


async def test_a_question_may_be_typed_where_there_is_no_speech(tmp_path: Path) -> None:
    ran = await voicebus(
        "dev",
        "examples.front_desk",
        "--once",
        "--no-speech",
        "--question",
        "What is the weather in Rome?",
        *FREE_PORTS,
        cwd=tmp_path,
        timeout_s=120,
    )
    assert ran.status == 0, ran.out + ran.err[-3000:]
    assert ran.out.splitlines()[-1] == "demo: ok"


async def test_a_cluster_with_a_certificate_is_served_over_tls(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue()
    question = ("--once", "--no-speech", "--question", "What is the weather in Rome?")
    ran = await voicebus(
        *("dev", "examples.front_desk", "--gateways", "2", *question, *FREE_PORTS),
        cwd=tmp_path,
        timeout_s=120,
        tls_cert=str(pair.certificate),
        tls_key=str(pair.key),
    )
    assert ran.status == 0, ran.out + ran.err[-3000:]
    assert ran.out.splitlines()[-1] == "demo: ok"
    ran = await voicebus("dev", "examples.front_desk", *question, *FREE_PORTS, cwd=tmp_path, tls_cert="absent")
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: settings: VOICEBUS_TLS_KEY: not given, but VOICEBUS_TLS_CERT is; ")


async def test_a_question_without_a_tool_fails_the_demo_and_says_at_which_step(tmp_path: Path) -> None:
    ran = await voicebus(
        "dev",
        "examples.front_desk",
        "--once",
        "--no-speech",
        "--question",
        "[[say: no tool for you]]",
        *FREE_PORTS,
        cwd=tmp_path,
        timeout_s=120,
    )
    assert ran.status == 1
    assert any(line.startswith("FAILED tool: ") for line in ran.out.splitlines())
    assert ran.out.splitlines()[-1] == "demo: failed"


async def test_a_first_agent_needs_no_guardrail_and_every_worker_starts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "hotel.py").write_text(
        "from voicebus import RealtimeAgent, function_tool\n\n\n"
        "@function_tool\ndef room_price(nights: int) -> str:\n"
        '    """Tell the price of a room."""\n    return f"{nights * 120} euros"\n\n\n'
        'desk = RealtimeAgent(name="desk", instructions="You are the front desk.", tools=[room_price])\n'
    )
    question = '[[call: room_price {"nights": 3}]][[next]][[say: {outputs}]]'
    ran = await voicebus(
        "dev", "hotel", "--once", "--no-speech", "--question", question, *FREE_PORTS, cwd=tmp_path, timeout_s=120
    )
    assert ran.status == 0, ran.out + ran.err[-3000:]
    steps = [line.split()[1] for line in ran.out.splitlines() if line.startswith("ok ")]
    assert steps == STEPS
    assert "360 euros" in ran.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_leaves_no_process_and_no_port_behind(number: signal.Signals, tmp_path: Path) -> None:
    async with developing("examples.front_desk", cwd=tmp_path) as dev:
        assert (await fetch(f"{dev.url}/v1/agents"))["data"]
        children = children_of(dev.process.pid)
        assert len(children) == 6, "redis, gateway, tool-worker, guardrail-worker, archiver, simulator"
        dev.process.send_signal(number)
        async with asyncio.timeout(60):
            status = await dev.process.wait()
    assert status == (130 if number is signal.SIGINT else 0)
    assert not [child for child in children if alive(child)]
    with pytest.raises(OSError, match="refused"):
        await fetch(dev.url)


async def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    async with developing("examples.front_desk", cwd=tmp_path) as dev:
        children = children_of(dev.process.pid)
        os.kill(dev.process.pid, signal.SIGKILL)
        await dev.process.wait()
        await wait_until(
            lambda: not [child for child in children if alive(child)],
            description="the children to end with their parent",
            timeout=30,
        )


async def test_a_service_that_dies_ends_the_cluster_with_a_sentence(tmp_path: Path) -> None:
    async with developing("examples.front_desk", cwd=tmp_path) as dev:
        os.kill(children_of(dev.process.pid)[-1], signal.SIGKILL)
        async with asyncio.timeout(60):
            assert await dev.process.wait() == 1
    assert "voicebus: failed: " in (tmp_path / "log").read_text()
