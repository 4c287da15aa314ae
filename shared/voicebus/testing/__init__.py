"""For tests of voice agents: scripted models and servers, tools replaced, and assertions over what happened."""

from voicebus.testing.scripted_model import RealtimeStep, ScriptedRealtimeModel
from voicebus.testing.scripts import RealtimeScriptError, UnconsumedRealtimeSteps, UnexpectedRealtimeSend

__all__ = [
    "RealtimeScriptError",
    "RealtimeStep",
    "ScriptedRealtimeModel",
    "UnconsumedRealtimeSteps",
    "UnexpectedRealtimeSend",
]
