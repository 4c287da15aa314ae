"""Tools that live in another team's service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteTool:
    """A tool known by name only: its schema and queue come from the registry that live workers keep in Redis."""

    name: str
