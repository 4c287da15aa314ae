"""`RealtimeRunner`: an agent to start with, and the settings of its conversations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import DEFAULT_DEBOUNCE, RealtimeGuardrailsSettings, RealtimeRunConfig
from voicebus.errors import UserError


@dataclass
class RealtimeRunner:
    """What a gateway serves: conversations begin with `starting_agent` under `config`.

    Raises:
        UserError: `starting_agent` is no `RealtimeAgent`, or `config` has a key or a debounce that cannot be.
    """

    starting_agent: RealtimeAgent[Any]
    config: RealtimeRunConfig = field(default_factory=RealtimeRunConfig)

    def __post_init__(self) -> None:
        if not isinstance(self.starting_agent, RealtimeAgent):
            raise UserError(f"RealtimeRunner needs a RealtimeAgent to start with, not {self.starting_agent!r}")
        unknown = set(self.config) - set(RealtimeRunConfig.__annotations__)
        if unknown:
            raise UserError(f"RealtimeRunner config has unknown keys: {', '.join(sorted(unknown))}")
        _check_guardrails(self.config.get("guardrails_settings", {}))


def _check_guardrails(settings: Mapping[str, Any]) -> None:
    unknown = set(settings) - set(RealtimeGuardrailsSettings.__annotations__)
    if unknown:
        raise UserError(f"RealtimeRunner guardrails_settings has unknown keys: {', '.join(sorted(unknown))}")
    length = settings.get("debounce_text_length", DEFAULT_DEBOUNCE)
    if not isinstance(length, int) or isinstance(length, bool) or length < -1:
        raise UserError(f"RealtimeRunner debounce_text_length must be a whole number from -1, not {length!r}")
