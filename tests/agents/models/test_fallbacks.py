"""Which models a conversation has: what its address, its settings and its fallbacks name."""

import pytest

from voicebus.agents.models.fallbacks import RealtimeModelFallback, fallback_url, models_at

PLAIN = "wss://one.example/v1/realtime"
NAMED = "wss://one.example/v1/realtime?api-version=1&model=deployed"


@pytest.mark.parametrize(
    ("url", "fallback", "expected"),
    [
        (PLAIN, {"name": "mini"}, ("wanted", "mini")),
        (PLAIN, {"api_key": "k"}, ("wanted", "wanted")),
        (NAMED, {"name": "mini"}, ("deployed", "mini")),
        (NAMED, {"api_key": "k"}, ("deployed", "deployed")),
        (NAMED, {"url": "wss://two.example/"}, ("deployed", "deployed")),
        (NAMED, {"url": "wss://two.example/?model=other", "name": "mini"}, ("deployed", "other")),
    ],
)
def test_what_an_address_names_comes_before_what_a_setting_does(
    url: str, fallback: RealtimeModelFallback, expected: tuple[str, ...]
) -> None:
    assert models_at(url, "wanted", [fallback]) == expected


def test_a_fallbacks_name_takes_the_place_of_the_one_in_the_first_models_address() -> None:
    assert fallback_url({"name": "mini"}, NAMED) == "wss://one.example/v1/realtime?api-version=1&model=mini"
    assert fallback_url({"name": "mini"}, PLAIN) == PLAIN
    assert fallback_url({"name": "mini", "url": PLAIN}, NAMED) == PLAIN
    assert fallback_url({"api_key": "k"}, NAMED) == NAMED
