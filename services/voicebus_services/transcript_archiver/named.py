"""The session that a path names, and what is answered where there is none."""

from typing import Annotated, Final

from fastapi import Path

from voicebus.adapters.database.schema import SESSION_CHARS
from voicebus_services.http import ProblemError

# No database takes a NUL in a text.
Session = Annotated[str, Path(min_length=1, max_length=SESSION_CHARS, pattern=r"^[^\x00]*$")]

UNKNOWN: Final = "nothing was recorded of this session."


def unknown_session(session: str) -> ProblemError:
    """What is not there, and what is another tenant's, is answered alike."""
    return ProblemError(404, "unknown_session", f"nothing was recorded of session {session!r}")
