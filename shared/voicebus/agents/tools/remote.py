"""Tools that live in another team's service."""

from dataclasses import dataclass

from voicebus.errors import UserError


@dataclass(frozen=True)
class RemoteTool:
    """A tool known by name only: its schema and queue come from the registry that live workers keep in Redis.

    Raises:
        UserError: `name` is no name.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"RemoteTool: name must be the name of a tool, not {self.name!r}")
