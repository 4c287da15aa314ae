"""Addresses of models: what they name, and what is dialled."""

import pytest

from voicebus.adapters.model_address import joining_url, model_at, model_url, with_model


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("wss://api.openai.com/v1/realtime", "wss://api.openai.com/v1/realtime?model=m+1"),
        ("wss://h/openai/v1/realtime?model=deployed", "wss://h/openai/v1/realtime?model=deployed"),
        ("wss://h/o?api-version=1&deployment=d", "wss://h/o?api-version=1&deployment=d"),
        ("wss://h/v1/realtime?call_id=rtc_1", "wss://h/v1/realtime?call_id=rtc_1"),
        ("ws://h:1/x?a=b", "ws://h:1/x?a=b&model=m+1"),
    ],
)
def test_the_model_is_named_unless_the_address_does(url: str, dialled: str) -> None:
    assert model_url(url, "m 1") == dialled


def test_the_model_of_a_session_is_the_one_that_its_address_names() -> None:
    assert model_at("wss://h/?model=deployed", "wanted") == "deployed"
    assert model_at("wss://h/?model=", "wanted") == "wanted"
    assert model_at("wss://h/", "wanted") == "wanted"


def test_another_model_takes_the_place_of_the_one_that_the_address_names() -> None:
    assert with_model("wss://h/x?a=&model=deployed", "mini") == "wss://h/x?a=&model=mini"
    assert with_model("wss://h/x?deployment=d", "mini") == "wss://h/x?deployment=d"


def test_a_call_is_joined_in_place_of_a_model() -> None:
    assert joining_url("wss://h/x?a=b&model=m", "rtc_1") == "wss://h/x?a=b&call_id=rtc_1"
