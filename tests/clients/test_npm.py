"""The unmodified npm packages `openai` and `@openai/agents` hold conversations through a gateway that serves TLS."""

from pathlib import Path

import pytest

from clients.seen import ASK, LONG, check_stream, check_wire
from support.real_clients import Served, run_npm_program
from voicebus_services.model_simulator.tape import record

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("clients"),
]
BOTH = '[[call: where {"word": "here"}]] [[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'


def sound(folder: Path, text: str) -> Path:
    path = folder / f"{len(text)}.pcm"
    path.write_bytes(record(text))
    return path


@pytest.mark.parametrize("transport", ["ws", "websocket"])
async def test_openai_holds_a_conversation_with_tools_of_both_sides_and_an_interruption(
    secured: Served, tmp_path: Path, transport: str
) -> None:
    talk = await run_npm_program(
        "npm_openai",
        secured,
        base_url=secured.base_url,
        transport=transport,
        asks_server=ASK,
        asks_both=BOTH,
        asks_long=f"[[say: {LONG}]]",
        question=sound(tmp_path, ASK),
        speech=sound(tmp_path, "stop it please"),
    )
    assert (talk["session"]["model"], talk["session"]["instructions"], talk["session"]["tools"]) == ("first", "", [])
    assert "from process" in talk["served"]
    assert talk["called"] == [["open_map", {"place": "Rome"}]]
    assert "from process" in talk["both"]
    assert "the map is open" in talk["both"]
    assert "from process" in talk["spoken"]
    assert talk["interrupted"] == ["cancelled", "turn_detected"]
    assert talk["truncated_at"] == 50
    assert talk["errors"] == []
    check_stream(talk["seen"])
    await check_wire(secured)


async def test_openai_agents_hold_a_conversation_and_truncate_what_was_not_heard(
    secured: Served, tmp_path: Path
) -> None:
    own = '[[call: open_map {"place": "Rome"}]] [[next]] [[say: {outputs}]]'
    talk = await run_npm_program(
        "npm_agents",
        secured,
        url=secured.socket_url,
        texts=["[[say: Good morning.]]", ASK, own, BOTH],
        asks_long=f"[[say: {LONG}]]",
        question=sound(tmp_path, ASK),
        speech=sound(tmp_path, "stop it please"),
    )
    said = [
        part.get("transcript") or part.get("text")
        for item in talk["history"]
        if item["type"] == "message" and item["role"] == "assistant"
        for part in item["content"]
    ]
    assert said[0] == "Good morning."
    assert "from process" in said[1]
    assert said[2] == "the map is open"
    assert "from process" in said[3]
    assert "the map is open" in said[3]
    assert "from process" in said[4]
    assert talk["tools"] == [["open_map", "the map is open"]] * 2
    assert talk["audio"] > 48_000
    assert talk["interrupted"] == "cancelled"
    assert talk["errors"] == []
    check_stream(talk["seen"])
    await check_wire(secured)
