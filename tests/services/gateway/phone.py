"""An agent whose callers have telephones."""

from typing import Any

from voicebus import RealtimeAgent, RealtimeRunner

_PHONE = {"format": {"type": "audio/pcmu"}}
_CONFIG: Any = {"model_settings": {"audio": {"input": _PHONE, "output": _PHONE}}}

agent = RealtimeAgent("operator", instructions="You answer the telephone.")
runner = RealtimeRunner(agent, config=_CONFIG)
