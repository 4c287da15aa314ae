"""What JSON values keep alive."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from voicebus.engine import wire

_NUMBERS: Final = frozenset({int, float, bool})


def weight(item: Mapping[str, Any]) -> int:
    """Bytes of the texts in an item."""
    size = 0
    waiting: list[Iterable[Any]] = [item.values()]
    for values in waiting:  # grows meanwhile
        for value in values:
            if isinstance(value, str):
                size += value.__sizeof__()
            elif not value or type(value) in _NUMBERS:
                continue
            elif wire.is_mapping(value):
                waiting.append(value.values())
            elif isinstance(value, (list, tuple)):
                waiting.append(value)
    return size
