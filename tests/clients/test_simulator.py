"""The unmodified `openai` package against the model-simulator: what it sends are events of the package's own types."""

from collections import Counter
from pathlib import Path

import pytest

from support.real_clients import OLDEST, installed, run_program, too_old
from support.recording_proxy import recording_proxy
from support.simulator import running_simulator
from voicebus_services.model_simulator.tape import record

# The environment may have to be made first.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300), pytest.mark.xdist_group("clients")]
LONG = " ".join(["word"] * 60)


def test_the_clients_are_todays(capsys: pytest.CaptureFixture[str]) -> None:
    versions = installed()
    with capsys.disabled():
        print("\nclients:", ", ".join(f"{name} {version}" for name, version in versions.items()))
    assert not too_old(versions), f"{versions} is below {OLDEST}"


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "question.pcm"
    path.write_bytes(record("[[say: Good evening.]]"))
    return path


async def test_a_real_client_talks_to_the_simulator_and_every_event_validates(
    question: Path,
) -> None:
    async with running_simulator(pace=4.0) as simulator, recording_proxy(simulator.url) as recording:
        base_url = recording.url.removesuffix("/realtime").replace("ws:", "http:", 1)
        text = await run_program("openai_text", base_url, "[[say: Good morning.]]", "hello")
        assert text["answers"][0] == "Good morning."
        own = await run_program(
            "openai_own_tool", base_url, '[[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'
        )
        assert own["called"] == [{"name": "open_map", "arguments": {"place": "Rome"}}]
        assert own["answer"] == "the map is open"
        audio = await run_program("openai_audio", base_url, str(question))
        assert (audio["heard"], audio["said"]) == ("[[say: Good evening.]]", "Good evening.")
        assert audio["ms"] > 0
        stopped = await run_program("openai_interrupt", base_url, str(question), f"[[say: {LONG}]]")
        assert stopped["refused"] == "conversation_already_has_active_response"
        assert stopped["endings"] == [["cancelled", "client_cancelled"], ["cancelled", "turn_detected"]]
        report = await run_program("validate_events", stdin=recording.lines())
    assert report["wrong"] == []
    assert report["checked"]["server"] == Counter(recording.types("server"))
    assert len(report["checked"]["server"]) > 20
