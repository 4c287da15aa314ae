"""The contract's page (docs/contract.md) names every key, field, type and recorded event that the code knows."""

import re
from pathlib import Path

import pytest

import voicebus.contracts
from voicebus.contracts import commands, guardrails, tools
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import RESERVED_QUEUES, Keys

PAGE = (Path(voicebus.contracts.__path__[0]).parents[2] / "docs" / "contract.md").read_text()
KEYS = Keys()

TYPES: dict[str, type[Message]] = {
    tools.TOOL_CALL: tools.ToolCall,
    tools.TOOL_STARTED: tools.ToolStarted,
    tools.TOOL_PROGRESS: tools.ToolProgress,
    tools.TOOL_RESULT: tools.ToolResult,
    tools.TOOL_CANCEL: tools.ToolCancel,
    tools.TOOL_HANDOVER: tools.ToolHandover,
    tools.TOOL_FOLLOW: tools.ToolFollow,
    guardrails.GUARDRAIL_CHECK: guardrails.GuardrailCheck,
    guardrails.GUARDRAIL_VERDICT: guardrails.GuardrailVerdict,
    commands.SESSION_COMMAND: commands.SessionCommand,
    commands.SESSION_ANSWER: commands.SessionAnswer,
    commands.SESSION_TAKEN: commands.SessionTaken,
}


@pytest.mark.parametrize(
    "key",
    [
        KEYS.config,
        KEYS.events(0).replace("0", "SHARD"),
        KEYS.sessions(0, "TENANT").replace("0", "SHARD"),
        KEYS.tools("QUEUE"),
        KEYS.call("QUEUE", "SESSION", "CALL"),
        KEYS.guardrails(0).replace("0", "N"),
        KEYS.answer("DIGEST"),
        KEYS.inbox("GATEWAY"),
        KEYS.control("WORKER"),
        KEYS.gateway("GATEWAY"),
        KEYS.worker("WORKER"),
        KEYS.registry_tools,
        KEYS.dead("QUEUE"),
        KEYS.archiver_lease(0).replace("0", "SHARD"),
        KEYS.archivers,
        KEYS.gateways,
        KEYS.session_state("ID").replace(str(KEYS.event_shard("ID")), "SHARD"),
    ],
)
def test_every_key_is_listed(key: str) -> None:
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_listed_with_its_fields(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{kind}`" in line]
    assert set(TYPES[kind].model_fields) <= set(re.findall(r"`(\w+)`", row))


def test_the_fields_of_an_entry_outcomes_recorded_events_and_reserved_queues_are_listed() -> None:
    names = {*Entry.__struct_fields__, *tools.Outcome, *EventType, *RESERVED_QUEUES}
    assert names <= set(re.findall(r"`(\w+)`", PAGE))
