"""For tests of voice agents: scripted models and servers, tools replaced, and assertions over what happened."""

from voicebus.testing.scripted_model import RealtimeStep, ScriptedRealtimeModel
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

__all__ = [
    "ROUTINE",
    "Drop",
    "RealtimeScriptError",
    "RealtimeStep",
    "ScriptedConnection",
    "ScriptedRealtimeModel",
    "ScriptedRealtimeServer",
    "ServerConversation",
    "ServerStep",
    "UnconsumedRealtimeSteps",
    "UnexpectedRealtimeSend",
    "audio_turn",
    "barge_in",
    "end_turn",
    "failed_turn",
    "function_call",
    "function_calls",
    "open_turn",
    "server_error",
    "text_turn",
    "user_turn",
]
