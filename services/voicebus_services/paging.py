"""Cursors of lists, newest first: a place in the list, so that whatever is added meanwhile moves no page."""

from typing import Final
from urllib.parse import quote, unquote

from fastapi import Query

CURSOR: Final = Query(
    pattern=r"^[0-9]{1,15}-[!-~]{1,1000}$", max_length=1016, description="`next_cursor` of the page before."
)
"""What the parameter of a list takes: every text of this form is a place, whether or not there is anything at it."""


def cursor_of(started_at: int, session: str) -> str:
    """The cursor of the page behind this session, which began at `started_at` (ms)."""
    return f"{started_at}-{quote(session, safe='')}"


def place_of(cursor: str) -> tuple[int, str]:
    """The place of a cursor that `CURSOR` lets pass."""
    started_at, _, session = cursor.partition("-")
    return int(started_at), unquote(session, errors="replace").replace("\0", "")
