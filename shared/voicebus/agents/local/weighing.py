"""What JSON values keep alive."""

import sys
from collections.abc import Mapping
from typing import Any

from voicebus.engine import wire


def weight(item: Mapping[str, Any]) -> int:
    """Bytes of the texts in an item."""
    size = 0
    waiting: list[Any] = list(item.values())
    for value in waiting:  # grows meanwhile
        if isinstance(value, str):
            size += sys.getsizeof(value)
        elif value and wire.is_mapping(value):
            waiting += value.values()
        elif value and isinstance(value, list | tuple):
            waiting += value
    return size
