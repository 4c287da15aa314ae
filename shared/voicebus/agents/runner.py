"""`RealtimeRunner`: an agent to start with, and the settings of its conversations."""

from dataclasses import dataclass, field
from typing import Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig
from voicebus.errors import UserError


@dataclass
class RealtimeRunner:
    """What a gateway serves: conversations begin with `starting_agent` under `config`.

    Raises:
        UserError: `starting_agent` is no `RealtimeAgent`, or `config` has a key that does not exist.
    """

    starting_agent: RealtimeAgent[Any]
    config: RealtimeRunConfig = field(default_factory=RealtimeRunConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.starting_agent, RealtimeAgent):
            raise UserError(f"RealtimeRunner needs a RealtimeAgent to start with, not {self.starting_agent!r}")
        unknown = set(self.config) - set(RealtimeRunConfig.__annotations__)
        if unknown:
            raise UserError(f"RealtimeRunner config has unknown keys: {', '.join(sorted(unknown))}")
