"""A target module without any tool, as an agent that only talks."""

from voicebus import RealtimeAgent

talker = RealtimeAgent(name="talker", instructions="Talk.")
