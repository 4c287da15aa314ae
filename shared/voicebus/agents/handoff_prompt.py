"""What agents that hand conversations over may be told of it, for programs that build their instructions with it."""

from typing import Final

from voicebus.agents import checking

RECOMMENDED_PROMPT_PREFIX: Final = (
    "# How you work together\n"
    "You are one of several agents who serve the same caller, each with instructions and tools of its own. Where "
    "another one fits better, hand the conversation over by calling the function `transfer_to_<name of the agent>`. "
    "The caller hears one voice: never speak of agents, functions or of being transferred.\n"
)
"""Instructions for agents with handoffs, to be put before what the agent itself is told."""


def prompt_with_handoff_instructions(prompt: str) -> str:
    """`prompt` behind `RECOMMENDED_PROMPT_PREFIX`.

    Raises:
        UserError: `prompt` is no text.
    """
    checking.text("prompt_with_handoff_instructions", "prompt", prompt)
    return f"{RECOMMENDED_PROMPT_PREFIX}\n{prompt}"
