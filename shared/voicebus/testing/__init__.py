"""For tests of voice agents: scripted models and servers, tools replaced, and assertions over what happened."""

from voicebus.testing.expectations import Expectation, ExpectationFailed, ToolExpectation
from voicebus.testing.gateway_call import GatewayCall
from voicebus.testing.mocks import MockedCall, MockedTools, mock_tools
from voicebus.testing.playing import run_scenario, run_scenario_at
from voicebus.testing.recording import Recording, recorded
from voicebus.testing.report import ScenarioResult, StepResult, StepStatus, junit_xml
from voicebus.testing.scenario import Scenario
from voicebus.testing.scenario_file import find_scenarios, load_scenarios
from voicebus.testing.scripted_model import RealtimeConnectCall, RealtimeStep, ScriptedRealtimeModel
from voicebus.testing.scripted_server import ROUTINE, ScriptedConnection, ScriptedRealtimeServer
from voicebus.testing.scripts import RealtimeScriptError, UnconsumedRealtimeSteps, UnexpectedRealtimeSend
from voicebus.testing.server_conversation import ServerConversation
from voicebus.testing.server_steps import (
    Drop,
    ServerStep,
    audio_turn,
    barge_in,
    end_turn,
    failed_turn,
    function_call,
    function_calls,
    open_turn,
    server_error,
    text_turn,
    user_turn,
)
from voicebus.testing.timeline import RecordedEvent

__all__ = [
    "ROUTINE",
    "Drop",
    "Expectation",
    "ExpectationFailed",
    "GatewayCall",
    "MockedCall",
    "MockedTools",
    "RealtimeConnectCall",
    "RealtimeScriptError",
    "RealtimeStep",
    "RecordedEvent",
    "Recording",
    "Scenario",
    "ScenarioResult",
    "ScriptedConnection",
    "ScriptedRealtimeModel",
    "ScriptedRealtimeServer",
    "ServerConversation",
    "ServerStep",
    "StepResult",
    "StepStatus",
    "ToolExpectation",
    "UnconsumedRealtimeSteps",
    "UnexpectedRealtimeSend",
    "audio_turn",
    "barge_in",
    "end_turn",
    "failed_turn",
    "find_scenarios",
    "function_call",
    "function_calls",
    "junit_xml",
    "load_scenarios",
    "mock_tools",
    "open_turn",
    "recorded",
    "run_scenario",
    "run_scenario_at",
    "server_error",
    "text_turn",
    "user_turn",
]
