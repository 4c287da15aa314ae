"""The `Authorization` header of a key: what may be sent in a header, and what of a key is."""

from typing import Final

NOT_CARRIED: Final = "is blank, or holds what no header can carry: a line break, or a sign beyond ASCII"
"""What is wrong with a key for which there is no `bearer`."""

# Characters that no header's value has, but for the tab.
_CONTROLS: Final = frozenset(chr(code) for code in (*range(0x20), 0x7F)) - {"\t"}


def is_sendable(value: str) -> bool:
    """Whether a header can have this value."""
    return _CONTROLS.isdisjoint(value)


def bearer(key: str) -> str | None:
    """What carries `key`; None where nothing can, as `NOT_CARRIED` says.

    Blanks around a key, as the line's end of a mounted secret, are none of it.
    """
    kept = key.strip()
    return f"Bearer {kept}" if kept and kept.isascii() and kept.isprintable() else None
