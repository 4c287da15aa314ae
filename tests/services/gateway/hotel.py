"""The agents that the gateway's tests talk to."""

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.tools.decorator import function_tool
from voicebus.agents.tools.remote import RemoteTool


@function_tool(queue="services")
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return city


reception = RealtimeAgent(name="reception", instructions="You are at the desk.", tools=[get_weather])
porter = RealtimeAgent(
    name="porter", instructions="You carry bags.", tools=[RemoteTool("call_taxi")], handoffs=[reception]
)
reception.handoffs.append(porter)
