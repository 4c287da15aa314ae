"""`RealtimeRunConfig`: what a program says about all of its conversations, and what it sends into one."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, NotRequired, TypeAlias, TypedDict

from voicebus.agents.client_policy import ClientPolicy, check_client_policy
from voicebus.agents.context import RunContextWrapper, TContext
from voicebus.agents.context_model import model_of
from voicebus.agents.functions import takes
from voicebus.agents.guardrails import InputGuardrail, OutputGuardrail, check_window
from voicebus.agents.hooks import RealtimeRunHooks
from voicebus.agents.model_settings import (
    DEFAULT_MODEL_SETTINGS,
    Prompt,
    RealtimeAudioConfig,
    RealtimeAudioFormat,
    RealtimeAudioInputConfig,
    RealtimeAudioOutputConfig,
    RealtimeCustomVoice,
    RealtimeInputAudioNoiseReductionConfig,
    RealtimeInputAudioTranscriptionConfig,
    RealtimeModelName,
    RealtimeModelTracingConfig,
    RealtimeReasoningConfig,
    RealtimeReasoningEffort,
    RealtimeSessionModelSettings,
    RealtimeTurnDetectionConfig,
    RealtimeVoice,
    ToolChoice,
)
from voicebus.agents.models.fallbacks import ModelToken, RealtimeModelFallback, check_fallbacks, check_token
from voicebus.agents.naming import unknown_keys
from voicebus.agents.tools.hold import Hold, HoldPhrase, read_hold
from voicebus.agents.wire_settings import wire_audio_format, wire_session
from voicebus.errors import UserError

__all__ = [
    "DEFAULT_DEBOUNCE",
    "DEFAULT_MODEL_SETTINGS",
    "Prompt",
    "RealtimeAudioConfig",
    "RealtimeAudioFormat",
    "RealtimeAudioInputConfig",
    "RealtimeAudioOutputConfig",
    "RealtimeClientMessage",
    "RealtimeCustomVoice",
    "RealtimeGuardrailsSettings",
    "RealtimeInputAudioNoiseReductionConfig",
    "RealtimeInputAudioTranscriptionConfig",
    "RealtimeModelName",
    "RealtimeModelTracingConfig",
    "RealtimeReasoningConfig",
    "RealtimeReasoningEffort",
    "RealtimeRunConfig",
    "RealtimeSessionModelSettings",
    "RealtimeToolExecutionConfig",
    "RealtimeTurnDetectionConfig",
    "RealtimeUserInput",
    "RealtimeUserInputImage",
    "RealtimeUserInputMessage",
    "RealtimeUserInputText",
    "RealtimeVoice",
    "ToolChoice",
    "ToolErrorFormatter",
    "ToolErrorFormatterArgs",
    "check_run_config",
    "wire_audio_format",
    "wire_session",
]

DEFAULT_DEBOUNCE: Final = 100
"""Characters of new text between two checks of a guardrail."""


class RealtimeClientMessage(TypedDict):
    """A client event of the protocol: its `type`, and every other field of it in `other_data`."""

    type: str
    other_data: NotRequired[dict[str, Any]]


class RealtimeUserInputText(TypedDict):
    """A part of a message: text."""

    type: Literal["input_text"]
    text: str


class RealtimeUserInputImage(TypedDict):
    """`image_url` is a `data:` or `https:` address; `detail` is `auto`, `low` or `high`."""

    type: Literal["input_image"]
    image_url: str
    detail: NotRequired[Literal["auto", "low", "high"] | str]  # noqa: PYI051


class RealtimeUserInputMessage(TypedDict):
    """A message of the user, in parts."""

    type: Literal["message"]
    role: Literal["user"]
    content: list[RealtimeUserInputText | RealtimeUserInputImage]


RealtimeUserInput: TypeAlias = str | RealtimeUserInputMessage


class RealtimeGuardrailsSettings(TypedDict):
    """`debounce_text_length`: characters of new text between two checks (default 100); -1 checks at the end only.

    `hold_window_ms` is for guardrails of mode `hold` that name none (see `OutputGuardrail`).
    """

    debounce_text_length: NotRequired[int]
    hold_window_ms: NotRequired[int | None]


class RealtimeToolExecutionConfig(TypedDict):
    """`pre_approval_tool_input_guardrails`: ask a tool's input guardrails before a person, and again before it runs."""

    pre_approval_tool_input_guardrails: NotRequired[bool]


@dataclass(frozen=True)
class ToolErrorFormatterArgs(Generic[TContext]):
    """What a `tool_error_formatter` is told. `default_message` is what the model would hear without it.

    `error` is the exception, where there is one in this process.
    """

    kind: Literal["approval_rejected", "tool_not_found", "tool_exception"]
    tool_type: Literal["function"]
    tool_name: str
    call_id: str
    default_message: str
    run_context: RunContextWrapper[TContext]
    error: Exception | None = None


ToolErrorFormatter: TypeAlias = Callable[[ToolErrorFormatterArgs[Any]], Awaitable[str | None] | str | None]
"""Puts a tool's error into words for the model; None leaves the default. May be async."""


class RealtimeRunConfig(TypedDict):
    """What holds for every conversation of a runner. All keys are optional.

    `output_guardrails` and `input_guardrails` add to the agents' own. `tracing_disabled` switches the provider's
    traces off. `async_tool_calls`: tools run beside the conversation (default); False has the session wait for each.
    `tool_error_formatter` is asked for every tool error that the model is told. `hooks` are told what happens.
    `client_policy` is for agents that have none of their own. `hold_phrase`, `hold_after` and `hold_every` are for
    tools that do not say themselves what is said while they run (see `FunctionTool`). `context_model`, a pydantic
    model or a dataclass, is what the sessions' context is.

    `model_token` gives the model's key at each dialling; `model_fallbacks` are models to go on with, in order, where
    the first refuses or cannot be reached. In process the `api_key` and the `headers` of a model config beat the token.
    In a gateway the token beats its own key, and its own fallbacks come behind these. Joined calls live with their
    model, and have no other.
    """

    model_settings: NotRequired[RealtimeSessionModelSettings]
    output_guardrails: NotRequired[list[OutputGuardrail[Any]]]
    guardrails_settings: NotRequired[RealtimeGuardrailsSettings]
    tracing_disabled: NotRequired[bool]
    async_tool_calls: NotRequired[bool]
    tool_execution: NotRequired[RealtimeToolExecutionConfig]
    tool_error_formatter: NotRequired[ToolErrorFormatter]
    input_guardrails: NotRequired[list[InputGuardrail[Any]]]
    hooks: NotRequired[RealtimeRunHooks[Any] | None]
    client_policy: NotRequired[ClientPolicy | None]
    hold_phrase: NotRequired[HoldPhrase | None]
    hold_after: NotRequired[float | None]
    hold_every: NotRequired[float | None]
    context_model: NotRequired[type[Any] | None]
    model_token: NotRequired[ModelToken | None]
    model_fallbacks: NotRequired[list[RealtimeModelFallback]]


def check_run_config(config: Mapping[str, Any]) -> None:
    """Refuse what a run config cannot say.

    Raises:
        UserError: a key that does not exist, or a value that its key cannot have.
    """
    inner = RealtimeSessionModelSettings.__annotations__
    if unknown := unknown_keys(config, RealtimeRunConfig.__annotations__, within="model_settings", inner=inner):
        raise UserError(f"run config has unknown keys: {unknown}")
    wire_session(_section(config, "model_settings"))
    for key, kind in (("output_guardrails", OutputGuardrail), ("input_guardrails", InputGuardrail)):
        entries = config.get(key) or []
        if not isinstance(entries, list | tuple):
            raise _wrong(key, entries, "must be a list")
        for entry in entries:
            if not isinstance(entry, kind):
                raise _wrong(key, entry, f"must hold {kind.__name__} objects")
    for key in ("tracing_disabled", "async_tool_calls"):
        if not isinstance(config.get(key, False), bool):
            raise _wrong(key, config[key], "must be True or False")
    guardrails = _section(config, "guardrails_settings")
    _known(guardrails, RealtimeGuardrailsSettings, "run config guardrails_settings")
    length = guardrails.get("debounce_text_length", DEFAULT_DEBOUNCE)
    if not isinstance(length, int) or isinstance(length, bool) or length < -1:
        raise _wrong("guardrails_settings.debounce_text_length", length, "must be a whole number from -1")
    if guardrails.get("hold_window_ms") is not None:
        check_window("run config guardrails_settings.hold_window_ms", guardrails["hold_window_ms"])
    execution = _section(config, "tool_execution")
    _known(execution, RealtimeToolExecutionConfig, "run config tool_execution")
    early = execution.get("pre_approval_tool_input_guardrails", False)
    if not isinstance(early, bool):
        raise _wrong("tool_execution.pre_approval_tool_input_guardrails", early, "must be True or False")
    formatter = config.get("tool_error_formatter")
    if formatter is not None and not (callable(formatter) and takes(formatter, 1)):
        raise _wrong("tool_error_formatter", formatter, "must be a function of a ToolErrorFormatterArgs")
    hooks = config.get("hooks")
    if hooks is not None and (inspect.isclass(hooks) or not isinstance(hooks, RealtimeRunHooks)):
        raise _wrong("hooks", hooks, "must be a RealtimeRunHooks object")
    check_client_policy(config.get("client_policy"), "run config")
    run_config_hold(config)
    check_token(config.get("model_token"))
    check_fallbacks(config.get("model_fallbacks"))
    if config.get("context_model") is not None:
        model_of(config["context_model"])


def run_config_hold(config: Mapping[str, Any]) -> Hold:
    """What a run config says of hold phrases.

    Raises:
        UserError: as `read_hold`.
    """
    return read_hold("run config", config.get("hold_phrase"), config.get("hold_after"), config.get("hold_every"))


def _known(given: Mapping[str, Any], known: Any, where: str) -> None:
    if unknown := unknown_keys(given, known.__annotations__):
        raise UserError(f"{where} has unknown keys: {unknown}")


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(key, value, "must be an object")
    return value or {}


def _wrong(key: str, value: Any, rule: str) -> UserError:
    return UserError(f"run config {key} {rule}, not {value!r}")
