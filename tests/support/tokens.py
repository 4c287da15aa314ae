"""Functions that give a model's key, for settings that name one; `ASKED` tells which were asked."""

ASKED: list[str] = []


def token() -> str:
    """The key of this moment."""
    ASKED.append("sync")
    return "test"


async def slow_token() -> str:
    """The same, from somewhere else."""
    ASKED.append("async")
    return "test"
