"""What a session reads from its inbox."""

import json

from voicebus.contracts.envelope import Entry
from voicebus.contracts.tools import MAX_RESULT, TOOL_RESULT, Outcome
from voicebus.engine.inputs import ToolResultArrived
from voicebus.runtime.commands import Commands


def test_a_result_that_is_too_large_for_a_session_comes_as_an_error_whatever_its_worker_allows() -> None:
    result = {"call_id": "c", "outcome": "ok", "output": "x" * (MAX_RESULT + 1), "worker": "w", "duration_ms": 1}
    fields = {"v": "1", "id": "i", "type": TOOL_RESULT, "session": "s", "epoch": "1", "at": "1"}
    read = Commands().read(Entry.parse(fields | {"data": json.dumps(result)}))
    assert isinstance(read, ToolResultArrived)
    assert read.result.outcome is Outcome.ERROR
    assert str(MAX_RESULT) in read.result.output
