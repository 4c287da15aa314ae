"""A tool whose annotations are text, as `from __future__ import annotations` leaves them."""

from __future__ import annotations

from pydantic import BaseModel

from voicebus import ToolContext, function_tool


class Guest(BaseModel):
    name: str
    friend: Guest | None = None


@function_tool
def book(context: ToolContext, guest: Guest, nights: int = 1) -> str:
    """Book a room."""
    return f"{guest.name} {nights}"
