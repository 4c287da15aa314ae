"""A TARGET whose callers end their turns by hand."""

from voicebus import RealtimeAgent, RealtimeRunner

pusher = RealtimeAgent(name="pusher", instructions="Wait until they let the button go.")
runner = RealtimeRunner(pusher, config={"model_settings": {"turn_detection": None}})
