"""What live workers offer, as agents with a `RemoteTool` need it when they are resolved."""

from collections.abc import Mapping

from pydantic import ValidationError

from voicebus.adapters.redis.client import RedisConnection
from voicebus.agents.targets import Targets
from voicebus.agents.tools.remote import RemoteTool
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolRegistration
from voicebus.telemetry.logging import get_logger

log = get_logger(__name__)


class Registry:
    """Reads `vb:registry:tools`, only for the remote tools that the served agents name."""

    def __init__(self, redis: RedisConnection, keys: Keys, targets: Targets) -> None:
        self._redis = redis
        self._key = keys.registry_tools
        agents = targets.agents.values()
        self._names = sorted({tool.name for agent in agents for tool in agent.tools if isinstance(tool, RemoteTool)})

    async def read(self) -> Mapping[str, ToolRegistration]:
        """The registrations now.

        Raises:
            BusError: Redis cannot be reached.
        """
        if not self._names:
            return {}
        found: dict[str, ToolRegistration] = {}
        for name, text in zip(self._names, await self._redis.call("HMGET", self._key, *self._names), strict=True):
            if text is None:
                continue
            try:
                found[name] = ToolRegistration.model_validate_json(text)
            except ValidationError as error:
                log.warning("registration is malformed", tool=name, error=str(error))
        return found
