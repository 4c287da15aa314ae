"""Where a service's spans go: by its settings, else by OpenTelemetry's variables (OTEL_*), which clusters set for all.

Of these each counts that says what we can do. What we cannot is refused at the start, rather than left aside unseen.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voicebus.errors import SettingsError
from voicebus_services.settings import ENV_PREFIX, ServiceSettings

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_SPOKEN: Final = "http/protobuf"
_PATH: Final = "/v1/traces"
_RATIOS: Final = {"parentbased_always_on": 1.0, "parentbased_always_off": 0.0, "parentbased_traceidratio": None}
"""Samplers that follow whoever asked for a conversation, as we do, and the share that they mean; None: the argument."""


@dataclass(frozen=True)
class Tracing:
    """`endpoint` is the whole address that spans are posted to, `ratio` the share of conversations that begin here."""

    endpoint: str
    headers: Mapping[str, str]
    ratio: float


def tracing_of(read: ServiceSettings, variables: Mapping[str, str] = os.environ) -> Tracing | None:
    """What the settings and variables say; None where no traces are wanted.

    Raises:
        SettingsError: a variable asks for what is not done here.
    """
    given = {name: value.strip() for name, value in variables.items() if name.startswith("OTEL_") and value.strip()}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true" or given.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    endpoint = _endpoint(read, given)
    if endpoint is None:
        return None
    _check(given, "OTEL_TRACES_EXPORTER", ("otlp",), "otlp or none")
    for name in (f"{_PREFIX}TRACES_PROTOCOL", f"{_PREFIX}PROTOCOL"):
        if name in given:  # the first one counts
            _check(given, name, (_SPOKEN,), f"{_SPOKEN} alone (port 4318 by custom, not 4317; docs/traces.md)")
            break
    return Tracing(endpoint, read.otlp_headers, _ratio(read, given))


def _endpoint(read: ServiceSettings, given: Mapping[str, str]) -> str | None:
    if read.otlp_endpoint is not None:
        return read.otlp_endpoint.rstrip("/") + _PATH
    for name, path in ((f"{_PREFIX}TRACES_ENDPOINT", ""), (f"{_PREFIX}ENDPOINT", _PATH)):
        if name in given:
            if not given[name].startswith(("http://", "https://")):
                shown = "a secret" if "@" in given[name] else repr(given[name])
                raise SettingsError(
                    f"{name}: {shown} was read, but the address of a collector (http://…, https://…) is allowed"
                )
            return (given[name].rstrip("/") if path else given[name]) + path
    return None


def _ratio(read: ServiceSettings, given: Mapping[str, str]) -> float:
    name = given.get("OTEL_TRACES_SAMPLER")
    if name is None or "trace_ratio" in read.model_fields_set:
        return read.trace_ratio
    _check(given, "OTEL_TRACES_SAMPLER", tuple(_RATIOS), f"{', '.join(_RATIOS)} or {ENV_PREFIX}TRACE_RATIO")
    ratio = _RATIOS[name]
    if ratio is not None:
        return ratio
    argument = given.get("OTEL_TRACES_SAMPLER_ARG", "1")
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise SettingsError(f"OTEL_TRACES_SAMPLER_ARG: {argument!r} was read, but a number from 0 to 1 is allowed")
    return ratio


def _check(given: Mapping[str, str], name: str, allowed: tuple[str, ...], told: str) -> None:
    if name in given and given[name] not in allowed:
        raise SettingsError(f"{name}: {given[name]!r} was read, but {told} is allowed")
