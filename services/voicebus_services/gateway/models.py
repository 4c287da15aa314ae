"""The models that a gateway may talk to: the configured one and its fallbacks, each behind its circuit breaker.

An agent's own token and fallbacks (its run config) come before those of the settings.
"""

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voicebus.adapters.circuit import CircuitBreaker, GuardedConnector
from voicebus.adapters.model_key import Key
from voicebus.adapters.openai_realtime import OpenAIRealtimeConnector, without_credentials
from voicebus.agents.config import RealtimeRunConfig
from voicebus.agents.models.fallbacks import RealtimeModelFallback, fallback_url, models_at
from voicebus.errors import SettingsError
from voicebus.ports import ModelConnector
from voicebus_services.setting_values import Fallback
from voicebus_services.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Models:
    """The ways to a session's models, first choice first: the one at `url`, and its fallbacks."""

    url: str
    connectors: tuple[GuardedConnector, ...]
    fallbacks: tuple[RealtimeModelFallback, ...] = ()

    def names(self, wanted: str) -> tuple[str, ...]:
        """The models in this order, for a session that wants `wanted` of the first."""
        return models_at(self.url, wanted, self.fallbacks)

    def of_session(self, session: str) -> tuple[ModelConnector, ...]:
        """The ways for one session."""
        return tuple(way.of_session(session) for way in self.connectors)


@dataclass(frozen=True, slots=True)
class Reached:
    """`first` is the configured model, by itself, and `guarded` the same behind its circuit breaker.

    `of_agent` are the models of each agent, by name.
    """

    first: OpenAIRealtimeConnector
    guarded: GuardedConnector
    of_agent: Mapping[str, Models]


def models(settings: GatewaySettings, configs: Mapping[str, RealtimeRunConfig]) -> Reached:
    """The models of agents whose run configs `configs` are, by name.

    Raises:
        SettingsError: a real provider is addressed without a credential, or the function that gives the key is none.
    """
    key = _key(settings)
    first = _connector(settings, {}, key)
    if not configs or any(config.get("model_token") is None for config in configs.values()):
        first.require_credentials()
    guarded = _guarded(first, "")
    every = Models(settings.model_url, (guarded,))
    every = _with(every, settings, key, [_given(fallback) for fallback in settings.model_fallbacks], "fallback")
    served: dict[int, Models] = {}
    for agent, config in configs.items():
        if id(config) not in served:  # agents of one runner share theirs, and the circuit breakers
            served[id(config)] = _of(agent, config, every, settings, key)
    return Reached(first, guarded, {agent: served[id(config)] for agent, config in configs.items()})


def _of(agent: str, config: RealtimeRunConfig, every: Models, settings: GatewaySettings, key: Key | None) -> Models:
    token, fallbacks = config.get("model_token"), config.get("model_fallbacks") or ()
    if token is None and not fallbacks:
        return every
    first = every.connectors[0] if token is None else _guarded(_required(settings, {}, token), f" ({agent})")
    own = _with(Models(every.url, (first,)), settings, token or key, fallbacks, f"{agent}, fallback")
    return Models(every.url, own.connectors + every.connectors[1:], own.fallbacks + every.fallbacks)


def _with(
    first: Models, settings: GatewaySettings, key: Key | None, fallbacks: Sequence[RealtimeModelFallback], what: str
) -> Models:
    # Two ways to one address fail apart from each other: their keys and models are others.
    ways = (
        _guarded(_required(settings, fallback, key), f" ({what} {number})")
        for number, fallback in enumerate(fallbacks, start=1)
    )
    return Models(first.url, (*first.connectors, *ways), tuple(fallbacks))


def _guarded(connector: OpenAIRealtimeConnector, which: str) -> GuardedConnector:
    return GuardedConnector(connector, CircuitBreaker(f"{connector.server}{which}", time.monotonic))


def model_connector(settings: GatewaySettings) -> OpenAIRealtimeConnector:
    """The way to the configured model.

    Raises:
        SettingsError: as `models`.
    """
    return _required(settings, {}, _key(settings))


def _required(settings: GatewaySettings, other: RealtimeModelFallback, key: Key | None) -> OpenAIRealtimeConnector:
    connector = _connector(settings, other, key)
    connector.require_credentials()
    return connector


def _connector(settings: GatewaySettings, other: RealtimeModelFallback, key: Key | None) -> OpenAIRealtimeConnector:
    """The way to a model that is as the configured one, with `key`, but for what `other` says."""
    headers: Mapping[str, str] = settings.model_headers
    if "headers" in other:
        headers = other["headers"]
    elif "api_key" in other:
        headers = without_credentials(headers)
    return OpenAIRealtimeConnector(
        fallback_url(other, settings.model_url),
        api_key=other.get("api_key") or key,
        headers=headers,
        connect_timeout_s=settings.model_connect_timeout.total_seconds(),
    )


def _given(fallback: Fallback) -> RealtimeModelFallback:
    """A fallback of the settings as one of a run config."""
    given: RealtimeModelFallback = {}
    if fallback.url is not None:
        given["url"] = fallback.url
    if fallback.name is not None:
        given["name"] = fallback.name
    if fallback.api_key is not None:
        given["api_key"] = fallback.api_key.get_secret_value()
    if fallback.headers is not None:
        given["headers"] = fallback.headers
    return given


def _key(settings: GatewaySettings) -> Key | None:
    if settings.model_token is not None:
        return _function(settings.model_token)
    if settings.model_api_key is not None:
        return settings.model_api_key.get_secret_value()
    return os.environ.get("OPENAI_API_KEY")


def _function(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"VOICEBUS_MODEL_TOKEN: {name!r} cannot be imported ({error}); name module:function"
        ) from error
    if not callable(found):
        raise SettingsError(f"VOICEBUS_MODEL_TOKEN: {name!r} is no function; name one that returns the key")
    return found  # type: ignore[no-any-return]
