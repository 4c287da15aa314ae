"""The tool-picking brain of the model-simulator: it answers from the session's own tools, by their names, descriptions
and schemas alone."""

from voicebus_services.model_simulator.brain.brain import ToolPickingBrain

__all__ = ["ToolPickingBrain"]
