"""Voicebus: realtime voice agents as a cluster. Everything that a program imports comes from here."""

from typing import TYPE_CHECKING, Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig, RealtimeSessionModelSettings
from voicebus.agents.context import RunContextWrapper, ToolContext
from voicebus.agents.guardrails import GuardrailFunctionOutput, OutputGuardrail, output_guardrail
from voicebus.agents.handoffs import Handoff, realtime_handoff
from voicebus.agents.runner import RealtimeRunner
from voicebus.agents.tools.function_tool import FunctionTool, default_tool_error_function, function_tool
from voicebus.agents.tools.guardrails import (
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailData,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrail,
    ToolOutputGuardrailData,
    ToolOutputGuardrailTripwireTriggered,
    tool_input_guardrail,
    tool_output_guardrail,
)
from voicebus.agents.tools.remote import RemoteTool
from voicebus.agents.tools.results import BackgroundResult, background_result
from voicebus.agents.usage import Usage
from voicebus.errors import AgentsException, ModelBehaviorError, ToolTimeoutError, UserError, VoicebusError

if TYPE_CHECKING:
    from voicebus.agents.tools.worker import ToolWorker

__all__ = [
    "AgentsException",
    "BackgroundResult",
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
    "ToolGuardrailFunctionOutput",
    "ToolInputGuardrail",
    "ToolInputGuardrailData",
    "ToolInputGuardrailTripwireTriggered",
    "ToolOutputGuardrail",
    "ToolOutputGuardrailData",
    "ToolOutputGuardrailTripwireTriggered",
    "ToolTimeoutError",
    "ToolWorker",
    "Usage",
    "UserError",
    "VoicebusError",
    "background_result",
    "default_tool_error_function",
    "function_tool",
    "output_guardrail",
    "realtime_handoff",
    "tool_input_guardrail",
    "tool_output_guardrail",
]


def __getattr__(name: str) -> Any:
    # On first use only: it brings the bus, half a second of imports that a module of agents does not need.
    if name == "ToolWorker":
        from voicebus.agents.tools.worker import ToolWorker

        return ToolWorker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
