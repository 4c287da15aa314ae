"""An agent with the tools of the workers in examples/workers, whatever they are written in."""

from voicebus import RealtimeAgent, RemoteTools

keeper = RealtimeAgent(name="keeper", instructions="You keep the depot.", tools=[RemoteTools(queue="depot")])
