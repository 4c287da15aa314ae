"""What the clients' tests say to the agent, and what must be true of every conversation that they saw."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from support.real_clients import Served, run_program

LONG = " ".join(["word"] * 60)
ASK = '[[call: where {"word": "here"}]] [[next]] [[say: {outputs}]]'


def check_stream(seen: Sequence[Mapping[str, Any]]) -> None:
    """Nothing of the server's tools shows, and each response has one beginning and one end."""
    visible = [event for event in seen if event.get("item", {}).get("role") != "user"]
    text = json.dumps(visible)
    for hidden in ('"where"', '"transfer_to_second"', "First.", "voicebus"):
        assert hidden not in text, f"{hidden} shows"
    items = [event["item"] for event in seen if "item" in event]
    assert {item["output"] for item in items if item["type"] == "function_call_output"} <= {"the map is open"}
    begun = [event["response"]["id"] for event in seen if event["type"] == "response.created"]
    ended = [event["response"]["id"] for event in seen if event["type"] == "response.done"]
    assert begun == ended
    assert len(set(begun)) == len(begun)
    ids = [event["event_id"] for event in seen]
    assert len(set(ids)) == len(ids)


async def check_wire(served: Served) -> None:
    """What passed between the gateway and the model validates against the package's types."""
    report = await run_program("validate_events", stdin=served.model.lines())
    assert report["wrong"] == []
    for side in ("client", "server"):
        assert report["checked"][side] == Counter(served.model.types(side))
    assert "function_call_output" in served.model.lines().decode()
