"""The stream contract as an AsyncAPI 3 document, made from the models that the code itself uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from voicebus.contracts import commands, guardrails, tools
from voicebus.contracts.envelope import VERSION, Message
from voicebus.contracts.journal import EVENTS
from voicebus.contracts.streams import Keys

_SCHEMAS: Final = "#/components/schemas/"

_INFO: Final = """\
What the services of Voicebus tell each other over Redis Streams, and what a worker in another language meets.

A message here is a stream entry. Its fields are the headers, each a string; the payload is the JSON text in the field
`data`. Addresses are Redis keys with the default prefix `vb`; of `{{queue}}` the outer braces are literal, a Redis
Cluster hash tag: the queue `billing` is the key `vb:tools:{billing}`. What each key holds, how long it is kept, and
what a worker promises is in contract.md; the Lua scripts that a worker of the full level runs lie beside this
document."""


@dataclass(frozen=True)
class _Channel:
    address: str
    description: str
    messages: tuple[str, ...]
    parameters: Mapping[str, str]


_KEYS: Final = Keys()

_TYPES: Final[Mapping[str, type[Message]]] = {
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
    **{kind.value: model for kind, model in EVENTS.items()},
}
RECORDED: Final = frozenset(kind.value for kind in EVENTS)

_CHANNELS: Final[Mapping[str, _Channel]] = {
    "toolCalls": _Channel(
        _KEYS.tools("{queue}"),
        "Tool calls of one queue; consumer group `workers`.",
        (tools.TOOL_CALL,),
        {"queue": "The queue of the tool, as its registration says."},
    ),
    "guardrailChecks": _Channel(
        _KEYS.guardrails(0).replace("0", "{shard}"),
        "Checks of guardrails; consumer group `workers`.",
        (guardrails.GUARDRAIL_CHECK,),
        {"shard": "CRC-32 of the session's id, modulo the cluster's `guardrail_shards`."},
    ),
    "inbox": _Channel(
        _KEYS.inbox("{gateway}"),
        "Answers and commands to one gateway, read without a group; where a call says `reply_to`.",
        (
            tools.TOOL_STARTED,
            tools.TOOL_PROGRESS,
            tools.TOOL_RESULT,
            guardrails.GUARDRAIL_VERDICT,
            commands.SESSION_COMMAND,
            commands.SESSION_ANSWER,
            commands.SESSION_TAKEN,
        ),
        {"gateway": "The id of one incarnation of a gateway."},
    ),
    "control": _Channel(
        _KEYS.control("{worker}"),
        "Words to one worker that sends heartbeats, read without a group.",
        (tools.TOOL_CANCEL, tools.TOOL_HANDOVER, tools.TOOL_FOLLOW),
        {"worker": "The id of one incarnation of a worker."},
    ),
    "events": _Channel(
        _KEYS.events(0).replace("0", "{shard}"),
        "Recorded events of sessions, in order; consumer group `archiver`. Written by the session's owner alone.",
        tuple(sorted(RECORDED)),
        {"shard": "CRC-32 of the session's id, modulo the cluster's `event_shards`."},
    ),
}

_OPERATIONS: Final[Sequence[tuple[str, str, str, tuple[str, ...], str]]] = (
    ("receiveToolCall", "receive", "toolCalls", (tools.TOOL_CALL,), "A tool worker takes a call from its queue."),
    (
        "tellToolStarted",
        "send",
        "inbox",
        (tools.TOOL_STARTED,),
        "It says that it has begun, unless the result comes at once; full level.",
    ),
    ("tellToolProgress", "send", "inbox", (tools.TOOL_PROGRESS,), "It says how far it is; optional."),
    ("answerToolCall", "send", "inbox", (tools.TOOL_RESULT,), "It answers, once, and then acknowledges the entry."),
    ("receiveCancel", "receive", "control", (tools.TOOL_CANCEL,), "It stops a call that nobody waits for any more."),
    ("receiveHandover", "receive", "control", (tools.TOOL_HANDOVER,), "It takes a pending entry over; optional."),
    ("receiveFollow", "receive", "control", (tools.TOOL_FOLLOW,), "It tells of progress elsewhere now; optional."),
    ("receiveCheck", "receive", "guardrailChecks", (guardrails.GUARDRAIL_CHECK,), "A guardrail worker takes a check."),
    ("answerCheck", "send", "inbox", (guardrails.GUARDRAIL_VERDICT,), "It answers with its verdict."),
    ("commandSession", "send", "inbox", (commands.SESSION_COMMAND,), "Anybody asks a session's owner for something."),
    ("receiveAnswer", "receive", "inbox", (commands.SESSION_ANSWER,), "Whoever asked learns what came of it."),
    ("receiveTaken", "receive", "inbox", (commands.SESSION_TAKEN,), "An owner that slept learns that it is none now."),
    ("readEvents", "receive", "events", tuple(sorted(RECORDED)), "An archiver reads what happened."),
)


def asyncapi() -> dict[str, Any]:
    """The document, as JSON values."""
    models: list[type[Message]] = [*dict.fromkeys(_TYPES.values()), tools.ToolRegistration, commands.Resend]
    _, made = models_json_schema(
        [(model, "validation") for model in models],
        ref_template=_SCHEMAS + "{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Voicebus stream contract",
            "version": f"{VERSION}.0.0",
            "description": _INFO,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel) for name, channel in _CHANNELS.items()},
        "operations": {
            name: {
                "action": action,
                "summary": summary,
                "channel": {"$ref": f"#/channels/{channel}"},
                "messages": [{"$ref": f"#/channels/{channel}/messages/{_id(kind)}"} for kind in kinds],
            }
            for name, action, channel, kinds, summary in _OPERATIONS
        },
        "components": {
            "messages": {_id(kind): _message(kind, model) for kind, model in _TYPES.items()},
            "schemas": {**made["$defs"], "Entry": _envelope(None)},
        },
    }


def _channel(channel: _Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "description": channel.description,
        "messages": {_id(kind): {"$ref": f"#/components/messages/{_id(kind)}"} for kind in channel.messages},
        "parameters": {name: {"description": text} for name, text in channel.parameters.items()},
    }


def _message(kind: str, model: type[Message]) -> dict[str, Any]:
    return {
        "name": kind,
        "title": kind,
        "headers": _envelope(kind),
        "payload": {"$ref": _SCHEMAS + model.__name__},
    }


def _envelope(kind: str | None) -> dict[str, Any]:
    """The fields of an entry beside `data`; all are strings in Redis."""
    number = {"type": "string", "pattern": "^[0-9]+$"}
    fields: dict[str, Any] = {
        "v": {"const": str(VERSION), "description": "An entry of a newer version is not for you: dead-letter it."},
        "id": {"type": "string", "description": "A ULID; the same again where it was sent twice."},
        "type": {"type": "string"} if kind is None else {"const": kind},
        "session": {"type": "string"},
        "epoch": {**number, "description": "Which owner of the session wrote or asked; an answer repeats it."},
        "at": {**number, "description": "ms of the Redis server's clock."},
        "deadline": {**number, "description": "ms of the Redis server's clock; nothing starts after it."},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    }
    required = ["v", "id", "type", "session", "epoch", "at"]
    if kind in RECORDED:
        fields["seq"] = {**number, "description": "1, 2, 3, … in each session, without a gap."}
        required.append("seq")
    return {"type": "object", "properties": fields, "required": required}


def _id(kind: str) -> str:
    first, *others = kind.replace("_", ".").split(".")
    return first + "".join(word.capitalize() for word in others)
