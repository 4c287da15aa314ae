"""Cursors of lists, newest first: a place in the list, so that whatever is added meanwhile moves no page."""

from typing import Final
from urllib.parse import quote, unquote

CURSOR_PATTERN: Final = r"^[0-9]{1,15}-[!-~]{1,1000}$"
"""What a cursor looks like: every text of this form is a place, whether or not there is anything at it."""
CURSOR_CHARS: Final = 1016


def cursor_of(started_at: int, session: str) -> str:
    """The cursor of the page behind this session, which began at `started_at` (ms)."""
    return f"{started_at}-{quote(session, safe='')}"


def place_of(cursor: str) -> tuple[int, str]:
    """The place of a cursor of the form `CURSOR_PATTERN`."""
    started_at, _, session = cursor.partition("-")
    return int(started_at), unquote(session, errors="replace").replace("\0", "")
