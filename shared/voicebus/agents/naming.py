"""What is said of names that do not exist: which ones, and what may have been meant."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def unknown_keys(
    given: Iterable[object], known: Collection[str], *, within: str = "", inner: Collection[str] = ()
) -> str:
    """Those of `given` that are not `known`, in one line; "" where all are. `inner` are keys of the key `within`."""
    unknown = sorted(str(key) for key in given if key not in known)
    return ", ".join(f"{key} (it belongs in {within})" if key in inner else _hinted(key, known) for key in unknown)


def _hinted(key: str, known: Collection[str]) -> str:
    meant = get_close_matches(key, known, n=1)
    return f"{key} (did you mean {meant[0]}?)" if meant else key
