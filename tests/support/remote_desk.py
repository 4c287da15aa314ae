"""Agents whose tools belong to other teams: one names them, one takes whatever a queue has."""

from voicebus import RealtimeAgent, RemoteTool, RemoteTools

clerk = RealtimeAgent(name="clerk", instructions="You let rooms.", tools=[RemoteTool("room_price")])
butler = RealtimeAgent(name="butler", instructions="You help guests.", tools=[RemoteTools(queue="house")])
