"""From what people give as a gateway's address to where its faces are."""

import pytest

from voicebus.client.address import creating_address, native_address, session_in
from voicebus.errors import UserError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h:1", "ws://h:1/v1/sessions/connect?agent=a+b"),
        ("https://h/", "wss://h/v1/sessions/connect?agent=a+b"),
        ("ws://h/other?raw=1", "ws://h/other?raw=1&agent=a+b"),
    ],
)
def test_a_gateways_address_leads_to_its_native_face(url: str, address: str) -> None:
    assert native_address(url, {"agent": "a b"}) == address


@pytest.mark.parametrize("url", ["ftp://h", "nonsense", "http://"])
def test_what_is_no_gateway_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="no gateway's address"):
        native_address(url, {})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://h:1", "http://h:1/v1/sessions"),
        ("https://h/", "https://h/v1/sessions"),
        ("wss://h/v1/sessions/connect?agent=a", "https://h/v1/sessions"),
        ("https://h/voice/v1/sessions/connect", "https://h/voice/v1/sessions"),
    ],
)
def test_sessions_are_created_beside_the_native_face(url: str, address: str) -> None:
    assert creating_address(url) == address


def test_an_address_may_name_a_session_with_its_token() -> None:
    assert session_in("ws://h/v1/sessions/connect?session=01S&token=t") == ("01S", "t")
    assert session_in("ws://h/v1/sessions/connect?session=01S") is None
    assert native_address("ws://h/?session=01S&token=t", {"seq": "4"}).endswith("?session=01S&token=t&seq=4")
