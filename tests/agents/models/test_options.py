"""What a `model_config` cannot say is refused by the name of its key, before anything is dialled."""

from typing import Any

import pytest

from voicebus import OpenAIRealtimeWebSocketModel, RealtimeAgent, RealtimeRunner, UserError

AGENT = RealtimeAgent("ada", instructions="Be kind.")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"url": 5}, "'url' must be a string"),
        ({"url": "http://model.example/v1"}, "'url' must be the address of a WebSocket"),
        ({"url": "wss://"}, "'url' must be the address of a WebSocket, as wss://host/path, not one without a host"),
        ({"url": "wss://[::1"}, "'url' is no address"),
        ({"headers": ["Authorization"]}, "'headers' must map names to values"),
        ({"headers": {"Authorization": 5}}, "'headers' must map names to values"),
        ({"headers": {5: "x"}}, "'headers' must map names to values"),
        ({"headers": {"X-Tenant": "a\r\nX-Admin: b"}}, "'headers' holds 'X-Tenant', which has a name or a value"),
        ({"headers": {"X Tenant": "a"}}, "'headers' holds 'X Tenant', which has a name or a value"),
        ({"api_key": 5}, "'api_key' must be a string or a function"),
        ({"api_key": lambda name: "k"}, r"'api_key' must be a string or a function \(\) that returns one"),
        ({"api_key": lambda: 5}, "'api_key' returned int"),
        ({"call_id": 5}, "'call_id' must be a non-empty string"),
        ({"call_id": ""}, "'call_id' must be a non-empty string"),
        ({"initial_model_settings": 5}, "'initial_model_settings' must be a dict"),
        ({"playback_tracker": 5}, "'playback_tracker' must be a RealtimePlaybackTracker"),
        ({"api": "k"}, "unknown keys: api"),
        ({"voice": "ash"}, "it belongs in initial_model_settings"),
    ],
)
async def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any], sentence: str) -> None:
    config: Any = {"api_key": "k", "url": "ws://127.0.0.1:9/v1", **wrong}
    with pytest.raises(UserError, match=sentence):
        async with await RealtimeRunner(AGENT).run(model_config=config):
            pass
    model = OpenAIRealtimeWebSocketModel()
    with pytest.raises(UserError, match=sentence):
        await model.connect(config)


async def test_the_key_is_in_no_refusal() -> None:
    config: Any = {"url": "ws://127.0.0.1:9/v1", "api_key": b"s3cret"}
    with pytest.raises(UserError) as refused:
        await OpenAIRealtimeWebSocketModel().connect(config)
    assert "s3cret" not in str(refused.value)


async def test_a_wrong_address_of_the_environment_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOICEBUS_MODEL_URL", "https://model.example")
    with pytest.raises(UserError, match="'VOICEBUS_MODEL_URL' must be the address of a WebSocket"):
        await OpenAIRealtimeWebSocketModel().connect({"api_key": "k"})
