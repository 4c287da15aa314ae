"""The session object: its defaults, the check of every path of an update, and how an update merges.

Merge rule: objects under `audio` merge field by field, lists and scalars replace, `null` clears; a new
`turn_detection`, `format`, `transcription` or `noise_reduction` replaces the old one, missing fields taking defaults.
"""

import copy
from typing import Any

from voicebus_services.model_simulator.protocol.checks import (
    Check,
    Required,
    any_object,
    array,
    boolean,
    decimal,
    either,
    integer,
    missing,
    nullable,
    obj,
    one_of,
    string,
    tagged,
    unsupported,
    wrong_type,
)
from voicebus_services.model_simulator.protocol.refusal import RefusedError

JsonObject = dict[str, Any]

DEFAULT_INSTRUCTIONS = (
    "You are a helpful, witty, and friendly AI. Act like a human, but remember that you aren't a human and that you "
    "can't do human things in the real world. Your voice and personality should be warm and engaging."
)
PCM: JsonObject = {"type": "audio/pcm", "rate": 24000}
# The reference says 500 ms of silence; every captured session object says 200.
SERVER_VAD: JsonObject = {
    "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200,
    "idle_timeout_ms": None, "create_response": True, "interrupt_response": True,
}  # fmt: skip
SEMANTIC_VAD: JsonObject = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
_RESPONSE_SETTINGS = ("create_response", "interrupt_response")

audio_format: Check = tagged(
    "type",
    {
        "audio/pcm": obj({"type": string(), "rate": nullable(integer(24000, 24000))}),
        "audio/pcmu": obj({"type": string()}),
        "audio/pcma": obj({"type": string()}),
    },
)
voice: Check = either(
    "a string or an object",
    text=string(longest=256, shortest=1),
    object=obj({"id": Required(string(longest=256, shortest=1))}),
)
_tool_filter = obj({"tool_names": array(string()), "read_only": boolean})
function_tool: Check = obj(
    {
        "type": string(),
        "name": Required(string(longest=64, shortest=1)),
        "description": nullable(string()),
        "parameters": nullable(any_object),
    }
)
_mcp_tool = obj(
    {
        "type": string(),
        "server_label": Required(string(longest=256)),
        "server_url": string(),
        "connector_id": string(),
        "tunnel_id": string(),
        "authorization": nullable(string()),
        "headers": nullable(any_object),
        "allowed_tools": nullable(either("an array or an object", array=array(string()), object=_tool_filter)),
        "require_approval": nullable(
            either(
                "a string or an object",
                text=one_of("always", "never"),
                object=obj({"always": _tool_filter, "never": _tool_filter}),
            )
        ),
        "server_description": nullable(string()),
        "defer_loading": boolean,
        "allowed_callers": nullable(array(string())),
    }
)
tools: Check = array(tagged("type", {"function": function_tool, "mcp": _mcp_tool}), most=128)
tool_choice: Check = either(
    "a string or an object",
    text=one_of("none", "auto", "required"),
    object=tagged(
        "type",
        {
            "function": obj({"type": string(), "name": Required(string(longest=64))}),
            "mcp": obj({"type": string(), "server_label": Required(string()), "name": nullable(string())}),
        },
    ),
)
max_output_tokens: Check = either("an integer or 'inf'", text=one_of("inf"), number=integer(1, 4096))
reasoning: Check = nullable(obj({"effort": one_of("minimal", "low", "medium", "high", "xhigh")}))
prompt: Check = nullable(
    obj({"id": Required(string()), "version": nullable(string()), "variables": nullable(any_object)})
)


def output_modalities(value: Any, path: str) -> Any:
    if not isinstance(value, list):
        raise wrong_type(value, path, "an array")
    if value not in (["audio"], ["text"]):
        shown = f"[{', '.join(repr(entry) for entry in value[:4])}]"
        raise RefusedError(
            f"Invalid modalities: {shown}. Supported combinations are: ['text'] and ['audio'].",
            code="invalid_value",
            param=path,
        )
    return value


_input_audio = obj(
    {
        "format": audio_format,
        "noise_reduction": nullable(
            obj({"type": Required(one_of("near_field", "far_field")), "strength": nullable(decimal(0, 1))})
        ),
        "transcription": nullable(
            obj(
                {
                    "model": string(longest=256),
                    "language": nullable(string(longest=32)),
                    "prompt": nullable(string()),
                    "delay": nullable(string()),
                    "keywords": nullable(array(string())),
                    "languages": nullable(array(string())),
                }
            )
        ),
        "turn_detection": nullable(
            tagged(
                "type",
                {
                    "server_vad": obj(
                        {
                            "type": string(),
                            "threshold": nullable(decimal(0, 1)),
                            "prefix_padding_ms": nullable(integer(0, 60_000)),
                            "silence_duration_ms": nullable(integer(0, 60_000)),
                            "idle_timeout_ms": nullable(integer(5000, 30_000)),
                            "create_response": nullable(boolean),
                            "interrupt_response": nullable(boolean),
                        }
                    ),
                    "semantic_vad": obj(
                        {
                            "type": string(),
                            "eagerness": nullable(one_of("low", "medium", "high", "auto")),
                            "create_response": nullable(boolean),
                            "interrupt_response": nullable(boolean),
                        }
                    ),
                },
            )
        ),
    }
)
_include = nullable(array(one_of("item.input_audio_transcription.logprobs")))
_truncation = either(
    "a string or an object",
    text=one_of("auto", "disabled"),
    object=obj(
        {
            "type": Required(one_of("retention_ratio")),
            "retention_ratio": Required(decimal(0, 1)),
            "token_limits": nullable(obj({"post_instructions": integer(0)})),
        }
    ),
)
_tracing = nullable(
    either(
        "a string or an object",
        text=one_of("auto"),
        object=obj({"workflow_name": string(), "group_id": string(), "metadata": any_object}),
    )
)
_REALTIME = obj(
    {
        "type": string(),
        "model": string(longest=256),
        "instructions": string(),
        "output_modalities": output_modalities,
        "audio": obj(
            {
                "input": _input_audio,
                "output": obj({"format": audio_format, "voice": voice, "speed": decimal(0.25, 1.5)}),
            }
        ),
        "tools": tools,
        "tool_choice": tool_choice,
        "max_output_tokens": max_output_tokens,
        "truncation": _truncation,
        "tracing": _tracing,
        "prompt": prompt,
        "include": _include,
        "reasoning": reasoning,
        "parallel_tool_calls": boolean,
    }
)
_TRANSCRIPTION = obj({"type": string(), "audio": obj({"input": _input_audio}), "include": _include})


def default_config(
    session_type: str, session_id: str, model: str | None, expires_at: int, *, instructions: str = DEFAULT_INSTRUCTIONS
) -> JsonObject:
    """The full object that `session.created` shows; `model` is None for a transcription session."""
    hearing: JsonObject = {
        "format": dict(PCM),
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": dict(SERVER_VAD),
    }
    if session_type == "transcription":
        for name in _RESPONSE_SETTINGS:
            del hearing["turn_detection"][name]
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "expires_at": expires_at,
            "audio": {"input": hearing},
            "include": None,
        }
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "expires_at": expires_at,
        "output_modalities": ["audio"],
        "instructions": instructions,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": None,
        "truncation": "auto",
        "prompt": None,
        "include": None,
        "audio": {"input": hearing, "output": {"format": dict(PCM), "voice": "alloy", "speed": 1.0}},
    }


def check_update(patch: object, config: JsonObject) -> JsonObject:
    """The update, checked against the session's own type, before anything of it is applied.

    Raises:
        RefusedError: the first path that is unknown, missing, out of range or immutable.
    """
    if not isinstance(patch, dict):
        raise wrong_type(patch, "session", "an object")
    session_type = config["type"]
    if "type" not in patch:
        raise missing("session.type")
    given = one_of("realtime", "transcription")(patch["type"], "session.type")
    if given != session_type:
        raise RefusedError(
            f"Passing a {given} session update event to a {session_type} session is not allowed.",
            code="invalid_value",
            param="session.type",
        )
    checked: JsonObject = (_REALTIME if session_type == "realtime" else _TRANSCRIPTION)(patch, "session")
    if "model" in checked and checked["model"] != config["model"]:
        raise unsupported(checked["model"], "session.model", [config["model"]])
    if config.get("tracing") is not None and checked.get("tracing", config["tracing"]) != config["tracing"]:
        raise RefusedError(
            "Cannot update a session's tracing once it is enabled.",
            code="cannot_update_tracing",
            param="session.tracing",
        )
    return checked


def merged(config: JsonObject, patch: JsonObject) -> JsonObject:
    """A new full object: `config` with the checked `patch` laid over it."""
    result = copy.deepcopy(config)
    for name, value in patch.items():
        if name != "audio":
            result[name] = value
    for side, changes in patch.get("audio", {}).items():
        for name, value in changes.items():
            result["audio"][side][name] = _completed(name, value)
    detection = result["audio"]["input"]["turn_detection"]
    if result["type"] == "transcription" and detection is not None:
        # What only responses know is not part of a session that has none.
        for name in _RESPONSE_SETTINGS:
            detection.pop(name, None)
    return result


def _completed(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    given = {key: entry for key, entry in value.items() if entry is not None}
    if name == "format" and value["type"] == "audio/pcm":
        return {**PCM, **given}
    if name == "turn_detection":
        return {**(SERVER_VAD if value["type"] == "server_vad" else SEMANTIC_VAD), **given}
    return value
