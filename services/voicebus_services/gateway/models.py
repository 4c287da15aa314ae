"""The models that a gateway may talk to: the configured one and its fallbacks, each behind its circuit breaker."""

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voicebus.adapters.circuit import CircuitBreaker, GuardedConnector
from voicebus.adapters.openai_realtime import Key, OpenAIRealtimeConnector
from voicebus.errors import SettingsError
from voicebus.ports import ModelConnector
from voicebus_services.settings import Fallback, GatewaySettings


@dataclass(frozen=True, slots=True)
class Models:
    """`first` is the configured one, by itself; `connectors` are the ways to all of them, in order."""

    first: OpenAIRealtimeConnector
    connectors: tuple[ModelConnector, ...]
    fallback_names: tuple[str | None, ...] = ()

    def names(self, first: str) -> tuple[str, ...]:
        """The models' names by address, for a session whose own is `first`."""
        return (first, *(name or first for name in self.fallback_names))


def models(settings: GatewaySettings) -> Models:
    """The ways to the configured models.

    Raises:
        SettingsError: a real provider is addressed without a credential, or the function that gives the key is none.
    """
    first = model_connector(settings)
    fallbacks = [_fallback(settings, fallback) for fallback in settings.model_fallbacks]
    guarded: list[ModelConnector] = []
    for number, connector in enumerate((first, *fallbacks)):
        # Two ways to one address fail apart from each other: their keys and models are others.
        address = connector.server if number == 0 else f"{connector.server} (fallback {number})"
        guarded.append(GuardedConnector(connector, CircuitBreaker(address, time.monotonic)))
    return Models(first, tuple(guarded), tuple(fallback.name for fallback in settings.model_fallbacks))


def model_connector(settings: GatewaySettings) -> OpenAIRealtimeConnector:
    """The way to the configured model.

    Raises:
        SettingsError: as `models`.
    """
    connector = OpenAIRealtimeConnector(
        settings.model_url,
        api_key=_key(settings),
        headers=settings.model_headers,
        connect_timeout_s=settings.model_connect_timeout.total_seconds(),
    )
    connector.require_credentials()
    return connector


def _fallback(settings: GatewaySettings, fallback: Fallback) -> OpenAIRealtimeConnector:
    connector = OpenAIRealtimeConnector(
        fallback.url or settings.model_url,
        api_key=fallback.api_key.get_secret_value() if fallback.api_key is not None else _key(settings),
        headers=settings.model_headers if fallback.headers is None else fallback.headers,
        connect_timeout_s=settings.model_connect_timeout.total_seconds(),
    )
    connector.require_credentials()
    return connector


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
