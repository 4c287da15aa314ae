"""Parts of a resource over HTTP (RFC 9110, sections 13 and 14): which bytes of which version a GET wants."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, NamedTuple

_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


class Wanted(NamedTuple):
    """Bytes from `start` up to `end`; `partial` where the request asked for some of them only."""

    start: int
    end: int
    partial: bool


def unchanged(headers: Mapping[str, str], etag: str) -> bool:
    """Whether whoever asks has this version already (`If-None-Match`)."""
    known = [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]
    return "*" in known or etag in known


def wanted(headers: Mapping[str, str], size: int, etag: str, modified: datetime) -> Wanted | None:
    """What a request wants of `size` bytes; None where there is nothing there (416).

    As the RFC allows, several ranges at once, and what is no range of bytes, are answered with everything.
    """
    whole = Wanted(0, size, partial=False)
    match = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if match is None or match[1] == match[2] == "" or not _same(headers.get("if-range"), etag, modified):
        return whole
    first, last = match[1], match[2]
    if not first:  # the last so many
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    return Wanted(start, end, partial=True) if start < min(end, size) else None


def http_date(moment: datetime) -> str:
    """A time as HTTP writes it."""
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True)


def _same(if_range: str | None, etag: str, modified: datetime) -> bool:
    """Whether what was had before (`If-Range`) is this version."""
    if if_range is None or if_range.strip() == etag:
        return True
    try:
        return parsedate_to_datetime(if_range) == modified.astimezone(UTC).replace(microsecond=0)
    except (TypeError, ValueError):
        return False
