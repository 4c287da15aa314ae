"""Which proxy an address is reached through, as the environment names it."""

import pytest

from voicebus.adapters.sockets.proxies import proxy_of
from voicebus.errors import SettingsError

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_without_any_named_there_is_none() -> None:
    assert proxy_of("wss://api.openai.com/v1/realtime") is None


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTPS_PROXY", "wss://api.openai.com/v1/realtime"),
        ("https_proxy", "https://api.openai.com/v1/realtime"),
        ("HTTP_PROXY", "ws://models.example:8090/v1/realtime"),
    ],
)
def test_it_is_the_one_of_the_addresss_scheme(environment: pytest.MonkeyPatch, variable: str, url: str) -> None:
    environment.setenv(variable, PROXY)
    assert proxy_of(url) == PROXY


def test_that_of_the_other_scheme_does_not_count(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTP_PROXY", PROXY)
    assert proxy_of("wss://api.openai.com/v1/realtime") is None


def test_one_without_a_scheme_speaks_http(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "user:secret@proxy.example:3128")
    assert proxy_of("wss://api.openai.com") == "http://user:secret@proxy.example:3128"


@pytest.mark.parametrize("url", ["ws://127.0.0.1:8090/", "ws://localhost:8090/", "ws://[::1]:8090/"])
def test_this_machines_own_addresses_are_reached_without_one(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("HTTP_PROXY", PROXY)
    assert proxy_of(url) is None


@pytest.mark.parametrize("without", ["models.svc", ".svc", "models.svc:8090", "*"])
def test_what_no_proxy_names_is_reached_without_one(environment: pytest.MonkeyPatch, without: str) -> None:
    environment.setenv("HTTP_PROXY", PROXY)
    environment.setenv("NO_PROXY", without)
    assert proxy_of("ws://models.svc:8090/v1/realtime") is None


@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "http://:3128", "http://proxy.example:port"])
def test_what_is_no_proxy_is_refused_and_not_shown(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("HTTPS_PROXY", value)
    with pytest.raises(SettingsError, match=r"^HTTPS_PROXY: .* such as http://proxy.example:3128$") as told:
        proxy_of("wss://api.openai.com/v1/realtime")
    assert value not in str(told.value)
