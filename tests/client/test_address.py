"""From what people give as a gateway's address to where its faces are."""

import pytest

from voicebus.client.address import Destination, creating_address, native_address
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
    named = Destination("ws://h/?session=01S&token=t", {"seq": "4"})
    assert (named.session, named.token) == ("01S", "t")
    assert named.address.endswith("?session=01S&token=t&seq=4")
    assert named.again(9).endswith("?session=01S&token=t&seq=9")


def test_an_observers_address_may_name_a_session_alone() -> None:
    observed = Destination("ws://h/v1/sessions/connect?session=01S", {"observe": "1"})
    assert (observed.session, observed.token) == ("01S", "")
    assert observed.again(3).endswith("?session=01S&observe=1&seq=3")


def test_the_next_connection_is_for_the_session_that_began_and_not_for_another_one_of_its_agent() -> None:
    begun = Destination("http://h", {"agent": "desk", "audio": "none"})
    begun.session, begun.token = "01S", "t"
    assert begun.again(2) == "ws://h/v1/sessions/connect?audio=none&session=01S&token=t&seq=2"
