"""Text that UTF-8 can carry. Half a surrogate pair, as in a file name that is no UTF-8, is a character of Python's and
of JSON's escapes, and of no wire's: wherever text leaves the process it becomes a "?".
"""

from collections.abc import Callable, Mapping
from typing import Any


def sendable_text(text: str) -> str:
    """`text` with a "?" for each half of a pair; itself where there is none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def sendable(value: Any) -> Any:
    """The same for every text in JSON values, keys too."""
    if isinstance(value, str):
        return sendable_text(value)
    if isinstance(value, Mapping):
        return {sendable(key): sendable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(entry) for entry in value]
    return value


def encoded(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """What `encode` makes of JSON values, or of what is sendable of them."""
    try:
        return encode(value)
    except UnicodeEncodeError:
        return encode(sendable(value))
