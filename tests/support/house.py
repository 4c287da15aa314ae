"""The tools of another team, which has heard of no agent."""

from voicebus import function_tool


@function_tool(queue="house")
def room_price(nights: int) -> str:
    """Tell the price of a room.

    Args:
        nights: How many nights the guest stays.
    """
    return f"{nights} nights cost {nights * 120} euros."
