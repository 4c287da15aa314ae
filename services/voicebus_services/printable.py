"""Text of others on a terminal: what was said, what a tool returned, how somebody named something."""

from typing import Final

# Control characters of ASCII and of ISO 6429. An escape begins a command: to move the cursor, to write a title, to have
# a key pressed.
_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\N{REPLACEMENT CHARACTER}")
_LINES: Final = _CONTROLS | {ord(sign): sign for sign in "\n\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """`text` without anything that commands a terminal; its line ends and tabs stay with `lines`."""
    return text.translate(_LINES if lines else _CONTROLS)
