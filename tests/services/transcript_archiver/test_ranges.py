"""Which bytes a request wants, as RFC 9110 has it."""

from datetime import UTC, datetime

import pytest

from voicebus_services.transcript_archiver.ranges import Wanted, http_date, unchanged, wanted

SIZE = 1000
ETAG = '"abc"'
MODIFIED = datetime(2026, 3, 1, 12, 0, 5, 900_000, UTC)
WHOLE = Wanted(0, SIZE, partial=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-999", (500, 1000)),
        ("bytes=500-5000", (500, 1000)),
        ("bytes=999-", (999, 1000)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes= 0-1 ", (0, 2)),
    ],
)
def test_a_range_is_a_part(text: str, found: tuple[int, int]) -> None:
    assert wanted({"range": text}, SIZE, ETAG, MODIFIED) == Wanted(*found, partial=True)


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_had(text: str) -> None:
    assert wanted({"range": text}, SIZE, ETAG, MODIFIED) is None


def test_of_nothing_there_is_no_range() -> None:
    assert wanted({"range": "bytes=0-"}, 0, ETAG, MODIFIED) is None
    assert wanted({}, 0, ETAG, MODIFIED) == Wanted(0, 0, partial=False)


@pytest.mark.parametrize(
    "text",
    ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "lines=0-1", "bytes=0-1,5-6", f"bytes={'9' * 19}-"],
)
def test_what_is_no_single_range_of_bytes_gets_everything(text: str) -> None:
    assert wanted({"range": text}, SIZE, ETAG, MODIFIED) == WHOLE


@pytest.mark.parametrize(
    ("if_range", "same"),
    [
        (ETAG, True),
        ('"other"', False),
        (f"W/{ETAG}", False),
        (http_date(MODIFIED), True),
        ("Sun, 01 Mar 2026 12:00:06 GMT", False),
        ("yesterday", False),
        ("", False),
    ],
)
def test_a_range_of_another_version_gets_everything(if_range: str, same: bool) -> None:
    found = wanted({"range": "bytes=0-9", "if-range": if_range}, SIZE, ETAG, MODIFIED)
    assert found == (Wanted(0, 10, partial=True) if same else WHOLE)


@pytest.mark.parametrize(
    ("if_none_match", "same"),
    [(ETAG, True), (f"W/{ETAG}", True), ("*", True), (f'"x", {ETAG}', True), ('"x"', False), ("", False)],
)
def test_a_version_that_is_known_is_not_sent_again(if_none_match: str, same: bool) -> None:
    assert unchanged({"if-none-match": if_none_match}, ETAG) is same
    assert not unchanged({}, ETAG)
