"""`voicebus test`: what it prints, what it writes, and how it ends."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from support.commands import ROOT, environment, voicebus
from support.simulator import running_simulator
from voicebus.agents.targets import load_targets
from voicebus.testing import ScriptedRealtimeServer, ServerStep, text_turn
from voicebus_services.gateway.wiring import running_gateway
from voicebus_services.settings import GatewaySettings

# Its tests start up to a dozen commands one after another, which takes a busy machine long.
pytestmark = pytest.mark.timeout(180)

DESK = "examples.front_desk:runner"
EXAMPLE = str(ROOT / "examples" / "front_desk.scenario.yaml")


def written(folder: Path, name: str, *steps: str, head: str = f"agent: {DESK}") -> Path:
    path = folder / f"{name}.scenario.yaml"
    text = "settings: {output_modalities: [text]}"
    path.write_text("\n".join((head, text, "steps:", *(f"  - {step}" for step in steps), "")), encoding="utf-8")
    return path


async def test_the_example_passes_against_the_simulator(tmp_path: Path) -> None:
    junit = tmp_path / "reports" / "junit.xml"
    ran = await voicebus("test", EXAMPLE, "--simulator", "--junit", str(junit), cwd=ROOT)
    assert ran.status == 0, ran.out + ran.err
    assert ran.out.splitlines()[-1] == "5 scenarios: ok"
    root = ET.fromstring(junit.read_bytes())
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("5", "0", "0")


async def test_a_failed_step_is_status_1_with_what_happened_instead(tmp_path: Path) -> None:
    path = written(tmp_path, "bad", "say: '[[say: No idea]]'", "expect_text: idea", "{expect_text: sun, within: 0.1}")
    junit = tmp_path / "junit.xml"
    ran = await voicebus("test", str(path), "--simulator", "--junit", str(junit), cwd=ROOT)
    assert ran.status == 1
    assert f"{path}:6: expected a text of the assistant containing 'sun'; it did not come within 0.1 s" in ran.out
    assert "assistant: 'No idea'" in ran.out
    assert ran.out.splitlines()[-1] == "1 scenario: 1 failed"
    assert "Traceback" not in ran.err
    assert ET.fromstring(junit.read_bytes()).attrib["failures"] == "1"


async def test_folders_hold_scenarios_which_run_side_by_side_and_are_told_in_order(tmp_path: Path) -> None:
    for name, wait in (("a", "0.3"), ("b", "0"), ("c", "0")):
        written(tmp_path, name, f"wait: {wait}", f"say: '[[say: {name}]]'", f"expect_text: {{equals: {name}}}")
    written(tmp_path, "d", "say: What is the weather in Rome?", "expect_text: Foggy",
            head=f"agent: {DESK}\ntools: {{get_weather: {{returns: foggy}}}}")  # fmt: skip
    ran = await voicebus("test", str(tmp_path), "--simulator", "--workers", "3", "--json", cwd=ROOT)
    assert ran.status == 0, ran.out + ran.err
    results = [json.loads(line) for line in ran.out.splitlines()]
    assert [(result["scenario"], result["ok"]) for result in results] == [(name, True) for name in "abcd"]


async def test_the_model_is_the_one_that_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "one", "say: hello", "expect_text: from a script")
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("I am from a script."))]) as server:
        ran = await voicebus("test", str(path), "--model-url", server.url, cwd=ROOT)
        assert ran.status == 0, ran.out + ran.err
        ran = await voicebus("test", str(path), cwd=ROOT, model_url=server.url, model_headers='{"X-Test": "1"}')
        assert ran.status == 0, ran.out + ran.err
        assert "x-test" in {name.lower() for name in server.connections[1].headers}


async def test_a_model_is_never_chosen_silently(tmp_path: Path) -> None:
    path = written(tmp_path, "one", "say: hello")
    ran = await voicebus("test", str(path), cwd=ROOT)
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: settings: VOICEBUS_MODEL_API_KEY: none was given")
    assert ran.complaint.endswith("or give --simulator")


async def test_a_model_that_cannot_be_reached_is_status_1(tmp_path: Path) -> None:
    path = written(tmp_path, "one", "say: hello")
    ran = await voicebus("test", str(path), cwd=ROOT, model_url="ws://127.0.0.1:1/v1/realtime")
    assert ran.status == 1
    assert "the conversation could not be held: ModelLinkError" in ran.out


async def test_what_is_wrong_before_anything_runs_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    typo = written(tmp_path, "typo", "sya: hello")
    nowhere = written(tmp_path, "nowhere", "say: hello", head="agent: no_such_module")
    mocked = written(tmp_path, "mocked", "say: hello", head=f"agent: {DESK}\ntools: {{get_wether: {{returns: 1}}}}")
    voiced = tmp_path / "voiced.scenario.yaml"
    voiced.write_text(f"agent: {DESK}\nsettings: {{voic: marin}}\nsteps:\n  - say: hello\n", encoding="utf-8")
    mute = written(tmp_path, "mute", "say_audio: none.wav")
    for arguments, sentence in (
        ([str(typo)], f"voicebus: test: {typo}:4: step 1: sya: there is no such field; say, "),
        ([str(tmp_path / "none.yaml")], f"voicebus: test: {tmp_path}/none.yaml: there is no such file"),
        ([str(nowhere)], f"voicebus: test: {nowhere}:1: agent: TARGET 'no_such_module'"),
        ([str(mocked)], f"voicebus: test: {mocked}:2: tools: no agent has a tool 'get_wether'"),
        ([str(voiced)], f"voicebus: test: {voiced}:2: settings: has unknown keys: voic (did you mean voice?)"),
        ([str(mute)], f"voicebus: test: {mute}:4: step 1: say_audio: {tmp_path}/none.wav cannot be read"),
        ([str(nowhere), "--agent", "elsewhere"], "voicebus: target: TARGET 'elsewhere'"),
        ([str(mocked), "--url", "ws://127.0.0.1:1"], "voicebus: test: --url and --simulator exclude each other"),
        ([], "voicebus: usage: Missing argument"),
    ):
        ran = await voicebus("test", *arguments, "--simulator", cwd=ROOT)
        assert ran.status == 2, (arguments, ran)
        assert ran.complaint.startswith(sentence)


@pytest.mark.parametrize(
    ("body", "head", "where", "sentence"),
    [
        ("say: Hi", "agent: nowhere:runner", ("--simulator",), "there is no module 'nowhere'"),
        ("say_audio: none.wav", f"agent: {DESK}", ("--simulator",), "none.wav cannot be read"),
        ("say: Hi", "context: {a: 1}", ("--url", "ws://127.0.0.1:1"), "b.scenario.yaml:1: context: cannot be had"),
    ],
)
async def test_what_one_scenario_cannot_have_is_told_before_any_of_them_runs(
    tmp_path: Path, body: str, head: str, where: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "a.scenario.yaml").write_text(f"agent: {DESK}\nsteps: [wait: 0]\n", encoding="utf-8")
    (tmp_path / "b.scenario.yaml").write_text(f"{head}\nsteps:\n  - {body}\n", encoding="utf-8")
    ran = await voicebus("test", str(tmp_path), *where, cwd=ROOT)
    assert (ran.status, ran.out) == (2, "")
    assert sentence in ran.err


async def test_a_gateway_is_asked_instead_of_an_agent_in_process(
    tmp_path: Path, redis_url: str, stream_prefix: str
) -> None:
    path = tmp_path / "hello.scenario.yaml"
    path.write_text("steps:\n  - say: '[[say: From afar]]'\n  - expect_text: afar\n", encoding="utf-8")
    async with running_simulator() as simulator:
        settings = GatewaySettings(
            redis_url=redis_url, stream_prefix=stream_prefix, model_url=simulator.url, model_api_key="test",
            http_port=0, ops_port=0, drain_timeout=0,
        )  # fmt: skip
        async with running_gateway(settings, load_targets(["examples.front_desk"])) as gateway:
            url = f"ws://127.0.0.1:{gateway.port}"
            ran = await voicebus("test", str(path), "--url", url, "--agent", "reservations", cwd=tmp_path)
            assert ran.status == 0, ran.out + ran.err
            ran = await voicebus("test", EXAMPLE, "--url", url, cwd=tmp_path)
            assert ran.status == 2
            assert ":11: settings: cannot be had from a gateway" in ran.complaint
    ran = await voicebus("test", str(path), "--url", url, cwd=tmp_path)
    assert ran.status == 1
    assert "no gateway answers" in ran.out


async def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    quick = written(tmp_path, "a", "wait: 0")
    slow = written(tmp_path, "b", "wait: 60")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicebus_services.cli", "test", str(quick), str(slow), "--simulator",
        cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        # The first one's report is out: the second one waits.
        while b"wait 0" not in (line := await process.stdout.readline()):
            assert line, "it ended before"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            _, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130
    assert b"Traceback" not in complaints


@pytest.mark.parametrize("workers", ["0", "none"])
async def test_a_number_of_workers_that_cannot_be_is_refused(workers: str) -> None:
    ran = await voicebus("test", EXAMPLE, "--simulator", "--workers", workers)
    assert ran.status == 2
    assert ran.complaint.startswith("voicebus: usage: ")
