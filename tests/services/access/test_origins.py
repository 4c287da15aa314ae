"""Which pages may use a port."""

import pytest

from voicebus_services.access.origins import Origins

LISTED = Origins(frozenset({"https://app.example"}))


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://app.example", True),
        ("https://voice.example:8080", True),
        ("https://evil.example", False),
        ("https://app.example.evil.example", False),
        ("http://app.example", False),
        ("null", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_listed_pages_and_those_of_the_port_itself_are_allowed(origin: str | None, allowed: bool) -> None:
    headers = {"host": "voice.example:8080"} | ({} if origin is None else {"origin": origin})
    assert LISTED.allows(headers) == allowed


def test_without_a_list_any_page_may_show_its_credential() -> None:
    assert Origins().allows({"origin": "https://anywhere.example", "host": "voice.example"})
