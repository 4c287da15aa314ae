"""Run configs are checked whole when they are given."""

from dataclasses import dataclass
from typing import Any

import pytest

from voicebus.agents.client_policy import ClientPolicy
from voicebus.agents.config import RealtimeRunConfig, ToolErrorFormatterArgs, check_run_config
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail
from voicebus.agents.hooks import RealtimeRunHooks
from voicebus.errors import UserError


def judge(context: Any, agent: Any, text: str) -> Any: ...


@dataclass
class Guest:
    name: str


def test_a_run_config_may_say_everything_or_nothing() -> None:
    check_run_config({})
    full: RealtimeRunConfig = {
        "model_settings": {"voice": "cedar"},
        "output_guardrails": [OutputGuardrail(judge)],
        "input_guardrails": [InputGuardrail(judge)],
        "guardrails_settings": {"debounce_text_length": -1},
        "tracing_disabled": True,
        "async_tool_calls": False,
        "tool_execution": {"pre_approval_tool_input_guardrails": True},
        "tool_error_formatter": lambda args: args.default_message,
        "hooks": RealtimeRunHooks(),
        "client_policy": ClientPolicy(show={"tools"}),
        "hold_phrase": "One moment.",
        "hold_after": 2,
        "hold_every": 10.5,
        "context_model": Guest,
        "model_token": lambda: "key",
        "model_fallbacks": [
            {"name": "gpt-realtime-mini"},
            {"url": "wss://other.example/v1", "api_key": lambda: "key", "headers": {"X-Team": "blue"}},
        ],
    }
    check_run_config(full)
    assert set(RealtimeRunConfig.__annotations__) == set(full)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"debounce": 3}, "run config has unknown keys: debounce"),
        ({"voice": "ash"}, "run config has unknown keys: voice (it belongs in model_settings)"),
        ({"context_model": dict}, "context_model must be a pydantic model or a dataclass, not <class 'dict'>"),
        ({"hold_phrase": 3}, "run config: hold_phrase must be a text of at most 500 characters, or a list"),
        ({"hold_after": -1}, "run config: hold_after must be a number of seconds above 0, not -1"),
        ({"model_settings": 3}, "run config model_settings must be an object"),
        ({"model_settings": {"voise": 1}}, "model_settings has unknown keys: voise"),
        ({"output_guardrails": judge}, "output_guardrails must be a list"),
        ({"output_guardrails": [judge]}, "output_guardrails must hold OutputGuardrail objects"),
        ({"input_guardrails": [OutputGuardrail(judge)]}, "input_guardrails must hold InputGuardrail objects"),
        ({"guardrails_settings": {"debounce": 3}}, "guardrails_settings has unknown keys: debounce"),
        ({"guardrails_settings": {"debounce_text_length": "3"}}, "debounce_text_length must be a whole number"),
        ({"guardrails_settings": {"debounce_text_length": -2}}, "debounce_text_length must be a whole number"),
        ({"tracing_disabled": "yes"}, "tracing_disabled must be True or False, not 'yes'"),
        ({"async_tool_calls": 1}, "async_tool_calls must be True or False"),
        ({"tool_execution": {"early": True}}, "tool_execution has unknown keys: early"),
        ({"tool_execution": {"pre_approval_tool_input_guardrails": 1}}, "pre_approval_tool_input_guardrails must be"),
        ({"tool_error_formatter": "text"}, "tool_error_formatter must be a function"),
        (
            {"tool_error_formatter": lambda: "text"},
            "tool_error_formatter must be a function of a ToolErrorFormatterArgs",
        ),
        ({"model_token": "key"}, "run config model_token must be a function () that gives the key, not str"),
        ({"model_token": lambda model: "key"}, "run config model_token must be a function () that gives the key, not"),
        ({"model_fallbacks": {"name": "m"}}, "model_fallbacks must be a list of 8 models at most, not {'name': 'm'}"),
        ({"model_fallbacks": [{"name": "m"}] * 9}, "model_fallbacks must be a list of 8 models at most, not one of 9"),
        ({"model_fallbacks": ["m"]}, "model_fallbacks[0] must be a dict with a name, url, api_key or headers, not str"),
        ({"model_fallbacks": [{}]}, "model_fallbacks[0] must be a dict with a name, url, api_key or headers, not dict"),
        ({"model_fallbacks": [{"model": "m"}]}, "model_fallbacks[0] has unknown keys: model"),
        ({"model_fallbacks": [{"name": "m"}, {"name": ""}]}, "model_fallbacks[1].name must be a model's name, not ''"),
        ({"model_fallbacks": [{"url": "http://x/"}]}, "model_fallbacks[0]: 'url' must be the address of a WebSocket"),
        ({"model_fallbacks": [{"api_key": 5}]}, "model_fallbacks[0].api_key must be a key or a function that returns"),
        ({"model_fallbacks": [{"headers": {"X": 5}}]}, "model_fallbacks[0].headers must map names to values"),
        ({"hooks": object()}, "hooks must be a RealtimeRunHooks object"),
        ({"hooks": RealtimeRunHooks}, "hooks must be a RealtimeRunHooks object"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_its_name(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        check_run_config(config)
    assert sentence in str(refused.value)


def test_a_formatter_is_told_what_happened_by_position_or_name() -> None:
    args = ToolErrorFormatterArgs("approval_rejected", "function", "book", "c1", "no", RunContextWrapper(None))
    assert (args.kind, args.tool_name, args.call_id, args.default_message, args.error) == (
        "approval_rejected", "book", "c1", "no", None,
    )  # fmt: skip
