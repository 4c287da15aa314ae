"""Cursors of lists, newest first: opaque to clients, and stable whatever is added meanwhile."""

import base64
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from voicebus_services.http import ProblemError

MAX_CURSOR_CHARS: Final = 400

_PLACE: Final[TypeAdapter[tuple[int, str]]] = TypeAdapter(tuple[Annotated[int, Field(ge=0, lt=2**63)], str])


def cursor_of(started_at: int, session: str) -> str:
    """The cursor of the page behind this session, which began at `started_at` (ms)."""
    return base64.urlsafe_b64encode(_PLACE.dump_json((started_at, session))).decode()


def place_of(cursor: str) -> tuple[int, str]:
    """Where a page ended.

    Raises:
        ProblemError: 422, this is no cursor of ours.
    """
    try:
        return _PLACE.validate_json(base64.urlsafe_b64decode(cursor))
    except ValueError as error:
        raise ProblemError(422, "invalid_request", "query.cursor: pass next_cursor of the page before") from error
