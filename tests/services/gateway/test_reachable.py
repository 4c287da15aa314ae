"""Where other gateways are told to reach this one."""

import socket
from typing import Any

import pytest

from voicebus_services.gateway.reachable import reachable


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    found: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "gethostname", lambda: "gateway-7d9f")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("10.0.0.8", "10.0.0.8"), ("voice", "voice"), ("::1", "[::1]")]
)
def test_an_address_of_ones_own_is_told_as_it_is(host: str, address: str) -> None:
    assert reachable(host) == address


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_where_all_addresses_are_bound_the_one_of_the_name_is_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    named(monkeypatch, "10.42.0.17")
    assert reachable(host) == "10.42.0.17"


@pytest.mark.parametrize("host", ["::", ""])
def test_of_ipv6_it_is_one_that_others_can_dial(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    named(monkeypatch, "fe80::1%eth0", "fd00::17", "10.42.0.17")
    assert reachable(host) == "[fd00::17]"


def test_where_only_ipv4_is_bound_no_address_of_ipv6_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "fd00::17", "10.42.0.17")
    assert reachable("0.0.0.0") == "10.42.0.17"
    named(monkeypatch, "fd00::17")
    assert reachable("0.0.0.0") == "gateway-7d9f"


def test_a_name_that_leads_nowhere_else_is_told_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "127.0.1.1")
    assert reachable("0.0.0.0") == "gateway-7d9f"

    def unknown(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert reachable("0.0.0.0") == "gateway-7d9f"
