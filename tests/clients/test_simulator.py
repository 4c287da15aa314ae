"""The unmodified `openai` package against the model-simulator: what it sends are events of the package's own types."""

import json
from collections import Counter
from pathlib import Path

import pytest

from services.model_simulator.bench import Bench, Call, Say, only, silence
from support.real_clients import OLDEST, installed, run_program, too_old
from support.recording_proxy import recording_proxy
from support.simulator import running_simulator
from voicebus_services.model_simulator.protocol.quirks import Quirks
from voicebus_services.model_simulator.protocol.session import Listen
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


def everything_that_the_simulator_says() -> Bench:
    """A session in which each kind of server event comes at least once."""
    bench = Bench(quirks=Quirks(conversation_created=True))
    bench.session.greet()
    idle = {"type": "server_vad", "idle_timeout_ms": 5000, "create_response": False}
    bench.update(audio={"input": {"transcription": {"model": "whisper-1"}, "turn_detection": idle}})
    bench.append(record("hello") + silence(900))
    bench.listen()
    bench.append(record("hello again") + silence(900))
    work = next(work for work in bench.session.work if isinstance(work, Listen))
    bench.session.work.remove(work)
    bench.session.misheard(work, "hello again", "The audio could not be transcribed.")
    spoken = bench.respond(Say("Good morning."), Call("open_map", '{"place": "Rome"}'))
    item_id = only(spoken, "response.output_audio.done")["item_id"]
    bench.tick(30)
    bench.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
    bench.send("conversation.item.retrieve", item_id=item_id)
    bench.send("conversation.item.delete", item_id=item_id)
    bench.send("conversation.item.delete", item_id=item_id)
    bench.send("input_audio_buffer.clear")
    bench.update(output_modalities=["text"], tools=[{"type": "function", "name": "open_map"}])
    bench.respond(Say("Good evening."), conversation="none", metadata={"topic": "aside"})
    bench.send("response.create")
    bench.partly(Say("This will not be said to its end."))
    bench.send("response.cancel")
    bench.send("response.create")
    bench.session.responder.fail(bench.run(), "rate_limit_exceeded")
    bench.taken()
    return bench


KINDS = {
    *("error", "session.created", "session.updated", "conversation.created", "rate_limits.updated"),
    *(f"conversation.item.{step}" for step in ("added", "done", "retrieved", "truncated", "deleted")),
    *(f"conversation.item.input_audio_transcription.{step}" for step in ("delta", "completed", "failed")),
    *(f"input_audio_buffer.{step}" for step in ("speech_started", "speech_stopped", "committed", "cleared")),
    "input_audio_buffer.timeout_triggered",
    *(f"response.{step}" for step in ("created", "done", "output_item.added", "output_item.done")),
    *(f"response.content_part.{step}" for step in ("added", "done")),
    *(f"response.{kind}.{step}" for kind in ("output_text", "output_audio") for step in ("delta", "done")),
    *(f"response.output_audio_transcript.{step}" for step in ("delta", "done")),
    *(f"response.function_call_arguments.{step}" for step in ("delta", "done")),
}


async def test_every_kind_of_event_of_the_simulator_validates() -> None:
    events = everything_that_the_simulator_says().all
    lines = "".join(json.dumps(["server", event]) + "\n" for event in events)
    report = await run_program("validate_events", stdin=lines.encode())
    assert report["wrong"] == []
    assert set(report["checked"]["server"]) == KINDS
