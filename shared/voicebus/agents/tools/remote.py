"""Tools that live in another team's service."""

import re
from dataclasses import dataclass

from voicebus.contracts.streams import QUEUE_NAME
from voicebus.errors import UserError


@dataclass(frozen=True)
class RemoteTool:
    """A tool known by name only: its schema and queue come from the registry that live workers keep in Redis.

    While no worker offers it the agent does without; a session that runs gets it when it comes.

    Raises:
        UserError: `name` is no name.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"RemoteTool: name must be the name of a tool, not {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class RemoteTools:
    """Every tool that live workers offer in `queue`, whatever it is called, for as long as they do.

    What the agent has under a name itself comes first.

    Raises:
        UserError: `queue` is no name of a queue.
    """

    queue: str

    def __post_init__(self) -> None:
        if not isinstance(self.queue, str) or not re.fullmatch(QUEUE_NAME, self.queue):
            raise UserError(
                f"RemoteTools: queue must be a name of 1 to 64 letters, digits and _ . -, not {self.queue!r}"
            )
