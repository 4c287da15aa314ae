"""What `tool_choice` allows: "none" never yields a call, "required" or a named function always does."""

import json
from typing import Any

from voicebus_services.model_simulator.brains import BrainContext, BrainReply, Call, Say

JsonObject = dict[str, Any]
_MAX_DEPTH = 8


def obeying(reply: BrainReply, context: BrainContext) -> BrainReply:
    """The reply, made to obey the context's `tool_choice`."""
    choice = context.tool_choice
    if choice == "none":
        kept = tuple(output for output in reply.outputs if isinstance(output, Say))
        return BrainReply(kept or (Say("I may not use a tool for that."),), reply.fault, reply.delay_ms)
    named = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if named is None and choice != "required":
        return reply
    if any(isinstance(output, Call) and named in (None, output.name) for output in reply.outputs):
        return reply
    functions = [tool for tool in context.tools if tool.get("type") == "function" and named in (None, tool["name"])]
    if not functions:
        return reply
    tool = functions[0]
    arguments = json.dumps(_sample(tool.get("parameters") or {}, 0))
    return BrainReply((Call(tool["name"], arguments),), reply.fault, reply.delay_ms)


def _sample(schema: JsonObject, depth: int) -> Any:
    """The plainest value that fits an everyday JSON schema."""
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties") or {}
        names = [name for name in schema.get("required") or [] if isinstance(properties.get(name), dict)]
        return {name: _sample(properties[name], depth + 1) for name in names} if depth < _MAX_DEPTH else {}
    return {
        "string": "", "integer": schema.get("minimum", 0), "number": schema.get("minimum", 0), "boolean": False,
        "array": [], "null": None,
    }.get(kind)  # fmt: skip
