"""Voicebus: realtime voice agents as a cluster. Everything that a program imports comes from here."""

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig, RealtimeSessionModelSettings
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.guardrails import GuardrailFunctionOutput, OutputGuardrail, output_guardrail
from voicebus.agents.handoffs import Handoff, realtime_handoff
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.tools.function_tool import FunctionTool, default_tool_error_function, function_tool
from voicebus.agents.tools.remote import RemoteTool
from voicebus.errors import ModelBehaviorError, ToolTimeoutError, UserError, VoicebusError

__all__ = [
    "FunctionTool",
    "GuardrailFunctionOutput",
    "Handoff",
    "ModelBehaviorError",
    "OutputGuardrail",
    "RealtimeAgent",
    "RealtimeRunConfig",
    "RealtimeRunner",
    "RealtimeSessionModelSettings",
    "RemoteTool",
    "RunContextWrapper",
    "ToolContext",
    "ToolTimeoutError",
    "UserError",
    "VoicebusError",
    "default_tool_error_function",
    "function_tool",
    "output_guardrail",
    "realtime_handoff",
]
