"""Cursors: a place in a list as text, there and back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from voicebus_services.paging import CURSOR_PATTERN, cursor_of, place_of


@given(
    st.integers(0, 10**15 - 1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80),
)
def test_a_place_survives_its_cursor(started_at: int, session: str) -> None:
    cursor = cursor_of(started_at, session)
    assert re.fullmatch(CURSOR_PATTERN, cursor)
    assert place_of(cursor) == (started_at, session)


@given(st.from_regex(CURSOR_PATTERN, fullmatch=True))
def test_every_text_of_the_form_is_a_place_that_databases_take(cursor: str) -> None:
    started_at, session = place_of(cursor)
    assert 0 <= started_at < 2**63
    assert "\0" not in session
    session.encode()
