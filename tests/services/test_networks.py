"""Whose an address is."""

import pytest

from voicebus_services.networks import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", ""),
        ("None", "None"),
        ("what: a proxy says", "what: a proxy says"),
    ],
)
def test_an_address_of_ipv6_stands_for_its_network_and_any_other_for_itself(address: str, network: str) -> None:
    assert network_of(address) == network
