"""What is said of names that do not exist: which ones, and what may have been meant."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def unknown_keys(given: Iterable[object], known: Collection[str]) -> str:
    """Those of `given` that are not `known`, in one line; "" where all are."""
    return ", ".join(_hinted(key, known) for key in sorted(str(key) for key in given if key not in known))


def _hinted(key: str, known: Collection[str]) -> str:
    meant = get_close_matches(key, known, n=1)
    return f"{key} (did you mean {meant[0]}?)" if meant else key
