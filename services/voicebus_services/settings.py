"""The settings of every service: one class each, composed from small groups, read from `VOICEBUS_*`.

A setting comes from, first match wins: the command line, the variable `VOICEBUS_X`, the file named by `VOICEBUS_X_FILE`
(a mounted secret), the default. `load()` turns pydantic's reports into the one sentence that stops a service.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from voicebus.errors import SettingsError

ENV_PREFIX = "VOICEBUS_"

_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*$")


def _duration(value: object) -> object:
    """`30`, `30s`, `500ms`, `2m`, `1h` become a timedelta; bare numbers are seconds."""
    if isinstance(value, int | float):
        return timedelta(seconds=value)
    if isinstance(value, str):
        match = _DURATION.match(value)
        if match is None:
            raise ValueError("a duration such as 30, 30s, 500ms, 2m or 1h is allowed")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def _url(schemes: tuple[str, ...], what: str) -> Any:
    def check(value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in schemes or not rest.strip("/ "):
            allowed = ", ".join(f"{name}://…" for name in schemes)
            raise ValueError(f"{what} ({allowed}) is allowed")
        if scheme.startswith(("ws", "http")) and not urlsplit(value).hostname:
            raise ValueError(f"{what} with a host is allowed")
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Port = Annotated[int, Field(ge=0, le=65535)]
RedisUrl = Annotated[str, _url(("redis", "rediss", "redis+sentinel", "redis+cluster", "unix"), "a Redis address")]
ModelUrl = Annotated[str, _url(("ws", "wss"), "a WebSocket address")]
DatabaseUrl = Annotated[str, _url(("sqlite", "postgresql+psycopg"), "a database address")]
RecordingsUrl = Annotated[str, _url(("file", "s3"), "an object store address")]

OPENAI_URL = "wss://api.openai.com/v1/realtime"


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads field `x` from the file that `VOICEBUS_X_FILE` names, without the trailing newline."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{ENV_PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        # `api_keys_file` is a setting of its own, not the file form of `api_keys`.
        if not path or variable.removeprefix(ENV_PREFIX).lower() in self.settings_cls.model_fields:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable}: {path!r} cannot be read ({error}); name a readable text file") from error

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ServiceSettings(BaseSettings):
    """What every service has: logs and the ops port."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    ops_host: str = Field("127.0.0.1", description="Address of /metrics, /livez and /readyz; never public.")
    ops_port: Port = Field(0, description="0 takes a free port and logs it.")
    drain_timeout: Duration = Field(timedelta(seconds=60), description="How long SIGTERM waits for work in hand.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)


class BusSettings(ServiceSettings):
    """The services that meet on Redis."""

    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    stream_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = "vb"
    event_shards: Annotated[int, Field(ge=1, le=1024)] = 16
    guardrail_shards: Annotated[int, Field(ge=1, le=1024)] = 4


class HttpSettings(ServiceSettings):
    """The services with a public port."""

    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    api_keys_file: Path | None = Field(
        None, description="One key per line, `tenant:key`; # comments. Without it only loopback addresses are served."
    )


class GatewaySettings(BusSettings, HttpSettings):
    ops_port: Port = 9460
    model_url: ModelUrl = OPENAI_URL
    model_api_key: SecretStr | None = None
    model_name: str = "gpt-realtime-2.1"
    model_headers: Mapping[str, str] = Field(default_factory=dict)
    tool_timeout: Duration = timedelta(seconds=30)
    guardrail_timeout: Duration = timedelta(seconds=2)
    resume_grace: Duration = timedelta(seconds=60)
    max_sessions: Annotated[int, Field(ge=1, le=100_000)] = 500
    recordings_url: RecordingsUrl | None = None


class ToolWorkerSettings(BusSettings):
    ops_port: Port = 9461
    tool_timeout: Duration = timedelta(seconds=30)
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 20
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None


class GuardrailWorkerSettings(BusSettings):
    ops_port: Port = 9462
    guardrail_timeout: Duration = timedelta(seconds=2)
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 20


class ArchiverSettings(BusSettings, HttpSettings):
    http_port: Port = 8081
    ops_port: Port = 9463
    database_url: DatabaseUrl = "sqlite:///voicebus.db"


class DatabaseSettings(ServiceSettings):
    """What `voicebus migrate` needs."""

    database_url: DatabaseUrl = "sqlite:///voicebus.db"


class SimulatorSettings(HttpSettings):
    """The model-simulator; `seed` makes ids and answers repeatable."""

    http_port: Port = 8090
    ops_port: Port = 9464
    seed: int = 0
    speech: bool = Field(False, description="Hear and speak for real; needs voicebus[speech].")
    scenario: Path | None = Field(None, description="A scenario file; see docs/model-simulator.md.")
    pace: Annotated[float, Field(ge=0)] = Field(0.0, description="Output audio at N times real time; 0 is a burst.")
    simulator_api_key: SecretStr | None = Field(None, description="Accept this key only; any non-empty key otherwise.")


S = TypeVar("S", bound=ServiceSettings)


def load(settings: type[S], **overrides: Any) -> S:
    """Build one service's settings; options left at None on the command line do not override.

    Raises:
        SettingsError: names the variable, what was read (never a secret) and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(_sentence(settings, first)) from error


def _sentence(settings: type[ServiceSettings], report: Any) -> str:
    name = str(report["loc"][0]) if report["loc"] else "settings"
    variable = f"{ENV_PREFIX}{name.upper()}"
    field = settings.model_fields.get(name)
    secret = field is not None and "SecretStr" in str(field.annotation)
    read = (
        "a secret"
        if secret or ("://" in str(report["input"]) and "@" in str(report["input"]))
        else repr(report["input"])
    )
    message = str(report["msg"]).removeprefix("Value error, ")
    return f"{variable}: {read} was read, but {message[0].lower()}{message[1:]}"
