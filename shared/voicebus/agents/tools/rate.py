"""How a rate is written: `10/s`, `100/m`, `5/10s`, `1000/h`."""

import re
from dataclasses import dataclass
from typing import Final

_RATE: Final = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,5})?(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` in `seconds`; as many may come in one burst."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: object) -> "Rate | None":
        """What `text` says; None where it is no rate."""
        match = _RATE.fullmatch(text) if isinstance(text, str) and text.isascii() else None
        return None if match is None else cls(int(match[1]), int(match[2] or 1) * _SECONDS[match[3]])
