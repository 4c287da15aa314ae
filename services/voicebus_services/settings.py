"""The settings of every service: one class each, composed from small groups, read from `VOICEBUS_*`.

A setting comes from, first match wins: the command line, the variable `VOICEBUS_X`, the file named by `VOICEBUS_X_FILE`
(a mounted secret), the default. `load()` turns pydantic's reports into the one sentence that stops a service.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from voicebus.adapters.redis.address import address_of
from voicebus.adapters.sockets import MAX_MESSAGE
from voicebus.errors import SettingsError
from voicebus.secret_files import FileSettings
from voicebus_services.setting_values import (
    Algorithms,
    CollectorUrl,
    DatabaseUrl,
    Duration,
    Fallbacks,
    FunctionPlace,
    Headers,
    ModelUrl,
    Origins,
    Pace,
    Port,
    QueueName,
    Quirks,
    RecordingsUrl,
    RedisUrl,
    ServerHeaders,
    Sources,
    StreamPrefix,
)
from voicebus_services.settings_errors import sentence
from voicebus_services.silent_connections import MOST

ENV_PREFIX = "VOICEBUS_"

DIE_WITH_PARENT = f"{ENV_PREFIX}DIE_WITH_PARENT"
"""Set by `voicebus dev` for its child services: they ask the kernel to end them when their parent dies."""

Service = Literal["gateway", "tool-worker", "guardrail-worker", "transcript-archiver"]
"""What meets on Redis, by its command."""

OPENAI_URL = "wss://api.openai.com/v1/realtime"

_HTTP_PORT = "The public port; 0 takes a free one and logs it."
_OPS_PORT = "Port of /metrics, /livez and /readyz; 0 takes a free one and logs it."
_TOOL_TIMEOUT = "How long a tool may take that names no limit of its own."
_GUARDRAIL_TIMEOUT = "How long a check may take before its guardrail counts as unavailable."
_DATABASE = "sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME, with libpq's options (`?sslmode=require`)."


class ServiceSettings(FileSettings):
    """What every service has: logs and the ops port."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line shown.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    ops_host: str = Field(
        "127.0.0.1",
        description="Address of /metrics, /livez and /readyz; never public. :: is every address, of IPv4 too.",
    )
    ops_port: Port = Field(0, description="0 takes a free port and logs it.")
    drain_timeout: Duration = Field(timedelta(seconds=60), description="How long SIGTERM waits for work in hand.")
    otlp_endpoint: CollectorUrl | None = Field(
        None,
        description="Where traces are sent, by OTLP over HTTP, not gRPC: http://COLLECTOR:4318; else none are made.",
    )
    otlp_headers: Headers = Field(
        default_factory=dict, description='Headers for the collector, as JSON {"name": "value"}.'
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="The share of conversations that are traced, where their client does not say."
    )


class BusSettings(ServiceSettings):
    """The services that meet on Redis."""

    # Before the address, which they are put into.
    redis_username: str | None = Field(None, description="User of Redis (ACL), where the address names none.")
    redis_password: SecretStr | None = Field(None, description="Its password, where the address has none.")
    redis_sentinel_password: SecretStr | None = Field(None, description="Password of the sentinels, if they want one.")
    redis_tls_ca: Path | None = Field(
        None,
        description="PEM file with the certificates that a rediss:// address is trusted for. Default: the system's.",
    )
    redis_url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0", validate_default=True, description="Redis 7 or later, or Valkey."
    )
    stream_prefix: StreamPrefix = Field("vb", description="First part of every Redis key; one per cluster.")
    event_shards: int = Field(16, ge=1, le=1024, description="Event streams; pinned by the first service that starts.")
    guardrail_shards: int = Field(4, ge=1, le=1024, description="Guardrail streams; pinned likewise.")

    @field_validator("redis_url")
    @classmethod
    def _with_access(cls, value: str, info: ValidationInfo) -> str:
        return address_of(value, info.data)


class HttpSettings(ServiceSettings):
    """The services with a public port."""

    http_host: str = Field("127.0.0.1", description="Address of the public port; :: is every address, of IPv4 too.")
    http_port: Port = Field(8080, description=_HTTP_PORT)


class ApiSettings(HttpSettings):
    """The services whose public port asks for API keys."""

    api_keys_file: Path | None = Field(
        None,
        description="One key per line, as `voicebus keys create` prints it or `tenant:key`; read again when it changes."
        " Without any credentials only loopback addresses are served.",
    )
    allowed_origins: Origins | None = Field(
        None,
        description="Pages, separated by commas, that browsers may use this port from. Default: all with a credential.",
    )
    max_failed_credentials_per_minute: int = Field(
        600,
        ge=0,
        le=1_000_000,
        description="Wrong credentials from one address, as many at once, and a tenth of it that begin alike;"
        " 0 is no limit.",
    )
    max_requests_per_minute: int = Field(
        6000,
        ge=0,
        le=1_000_000,
        description="HTTP requests of one credential, over all services, as many in one burst; 0 is no limit.",
    )
    max_silent_connections: int = Field(
        MOST, ge=1, le=1_000_000, description="Connections without a request; beyond it the longest silent is dropped."
    )
    jwt_issuer: str | None = Field(None, min_length=1, description="Who issues the tokens (JWT) that are taken: `iss`.")
    jwt_audience: str | None = Field(None, min_length=1, description="Whom the tokens are for: `aud`.")
    jwt_jwks: str | None = Field(
        None, min_length=1, description="The issuer's keys (JWKS): an http(s):// address or a file."
    )
    jwt_algorithms: Algorithms = Field(
        ("RS256", "ES256", "EdDSA"), description="Signatures that are taken, separated by commas."
    )
    jwt_leeway: Duration = Field(timedelta(seconds=30), description="By how much clocks may differ.")
    jwt_tenant_claim: str = Field("tenant", min_length=1, description="The claim, or path of claims, with the tenant.")
    jwt_agents_claim: str = Field(
        "agents", min_length=1, description="The claim with the list of agents allowed; a token without it opens all."
    )


class RecordingsSettings(ServiceSettings):
    """The services that meet on the storage of recordings."""

    recordings_url: RecordingsUrl | None = Field(
        None, description="Where recordings are kept, file:///FOLDER or s3://BUCKET/PREFIX; without, none are made."
    )


class PrivacySettings(ServiceSettings):
    """What knows of the tenants' wishes about their records."""

    privacy_file: Path | None = Field(
        None,
        description="What tenants have redacted, recorded and erased, as YAML or JSON (docs/transcripts.md);"
        " read again when it changes. Without it nothing is.",
    )


class GatewaySettings(BusSettings, ApiSettings, RecordingsSettings, PrivacySettings):
    recording_consent: Literal["assumed", "required"] = Field(
        "assumed", description="Of a caller who has not said whether to record: `assumed` records, `required` does not."
    )
    ops_port: Port = Field(9460, description=_OPS_PORT)
    model_url: ModelUrl = Field(OPENAI_URL, description="The model: OpenAI, Azure, or any server of its protocol.")
    model_api_key: SecretStr | None = Field(None, description="Key for the model; OPENAI_API_KEY where not given.")
    model_token: FunctionPlace | None = Field(
        None,
        description="module:function that gives the model's key, asked at each dialling; instead of MODEL_API_KEY.",
    )
    model_fallbacks: Fallbacks = Field(
        default=(),
        description='Models to use where the first fails, as JSON [{"url", "name", "api_key", "headers"}], in order.',
    )
    model_connect_timeout: Duration = Field(
        timedelta(seconds=10), gt=timedelta(0), description="How long a model may take to accept a connection."
    )
    model_renewal_margin: Duration = Field(
        timedelta(minutes=2), gt=timedelta(0), description="How long before a model's session ends to leave it."
    )
    dead_air_timeout: Duration = Field(
        timedelta(seconds=3), description="How long an answer may take to begin before the model is asked; 0 for ever."
    )
    model_name: str = Field("gpt-realtime-2.1", description="Model of agents that name none.")
    model_headers: Headers = Field(
        default_factory=dict, description='Headers for the model, as JSON {"name": "value"}.'
    )
    tool_timeout: Duration = Field(timedelta(seconds=30), gt=timedelta(0), description=_TOOL_TIMEOUT)
    guardrail_timeout: Duration = Field(timedelta(seconds=2), gt=timedelta(0), description=_GUARDRAIL_TIMEOUT)
    resume_grace: Duration = Field(
        timedelta(seconds=60), description="How long a session waits for a client that was lost; 0 ends it at once."
    )
    approval_timeout: Duration = Field(
        timedelta(minutes=5), gt=timedelta(0), description="How long a person may take to approve a call; refused then."
    )
    max_sessions: int = Field(500, ge=1, le=100_000, description="Conversations that this gateway holds at once.")
    max_sessions_per_tenant: int = Field(0, ge=0, description="Over all gateways; 0 is no limit.")
    max_sessions_per_key: int = Field(0, ge=0, description="Over all gateways, where a key has no limit; 0 is none.")
    max_connections_per_minute: int = Field(
        6000, ge=1, le=1_000_000, description="New connections of one key, over all gateways; as many in one burst."
    )
    max_messages_per_second: int = Field(
        1000, ge=1, le=1_000_000, description="Messages of one connection; what comes faster is read later."
    )
    max_message_bytes: int = Field(
        MAX_MESSAGE, ge=65_536, le=MAX_MESSAGE, description="Bytes of one message; a larger one closes with 1009."
    )
    max_audio_speed: float = Field(
        3.0, ge=1, le=1000, description="Audio of one client, times real time; what comes faster is refused."
    )
    max_session_length: Duration = Field(timedelta(hours=2), description="How long a session may last; 0 is no limit.")
    max_idle_time: Duration = Field(
        timedelta(minutes=15),
        description="A session without a turn, speech or command for so long is ended; 0 is no limit.",
    )
    max_session_tokens: int = Field(0, ge=0, description="Tokens that the model may use in one session; 0 is no limit.")
    tls_cert: Path | None = Field(
        None, description="PEM file with the public port's certificate chain; read again when it changes."
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key, without a passphrase.")


class ToolWorkerSettings(BusSettings):
    ops_port: Port = Field(9461, description=_OPS_PORT)
    tool_timeout: Duration = Field(timedelta(seconds=30), gt=timedelta(0), description=_TOOL_TIMEOUT)
    concurrency: int = Field(20, ge=1, le=10_000, description="Calls that run at once.")
    max_deliveries: int = Field(
        5, ge=1, le=1000, description="How often a call is delivered without an end before it goes to the dead letters."
    )
    processes: int = Field(
        0, ge=0, le=256, description="Processes for tools of executor='process'; 0 means one for each processor."
    )
    queue: QueueName | None = Field(None, description="Queue of tools that name none themselves.")
    mcp: Sources = Field(
        default=(),
        description="An MCP server whose tools to offer, http(s)://… or a command, as NAME=… where it is to have a"
        " name; several times, or one a line in the variable.",
    )
    mcp_headers: ServerHeaders = Field(
        default_factory=dict,
        description='HTTP headers for MCP servers by their names, as JSON {"NAME": {"Authorization": "Bearer …"}}.',
    )
    mcp_connect_timeout: Duration = Field(
        timedelta(seconds=20),
        gt=timedelta(0),
        description="How long an MCP server may take to open a session, a command's start included.",
    )
    mcp_prefix: bool = Field(False, description="Call the tools of MCP servers mcp_NAME__TOOL.")
    reload: bool = Field(False, description="Start anew when Python files below the working directory change.")


class GuardrailWorkerSettings(BusSettings):
    ops_port: Port = Field(9462, description=_OPS_PORT)
    guardrail_timeout: Duration = Field(timedelta(seconds=2), gt=timedelta(0), description=_GUARDRAIL_TIMEOUT)
    concurrency: int = Field(20, ge=1, le=10_000, description="Checks that run at once.")


class ArchiverSettings(BusSettings, ApiSettings, RecordingsSettings, PrivacySettings):
    resume_grace: Duration = Field(
        timedelta(seconds=60), description="How long after its gateway's death a session is ended as interrupted."
    )
    http_port: Port = Field(8081, description=_HTTP_PORT)
    ops_port: Port = Field(9463, description=_OPS_PORT)
    database_url: DatabaseUrl = Field("sqlite:///voicebus.db", description=_DATABASE)
    retention_every: Duration = Field(
        timedelta(hours=1),
        description="How often what tenants do not keep any longer is erased (privacy file); 0 leaves it to"
        " `voicebus transcripts retention`.",
    )
    events_max_age: Duration = Field(
        timedelta(hours=24),
        gt=timedelta(0),
        description="How long a group that falls behind, the archiver's included, may hold recorded events back.",
    )
    events_max_bytes: int = Field(
        4 * 2**30, ge=0, description="How much of them it may hold back, over all shards, in bytes; 0 is no limit."
    )


class DatabaseSettings(ServiceSettings):
    """What `voicebus migrate` needs."""

    database_url: DatabaseUrl = Field("sqlite:///voicebus.db", description=_DATABASE)


class SimulatorSettings(HttpSettings):
    """The model-simulator; `seed` makes ids and answers repeatable."""

    http_port: Port = Field(8090, description=_HTTP_PORT)
    ops_port: Port = Field(9464, description=_OPS_PORT)
    seed: int = Field(0, description="The same seed gives the same ids.")
    speech: bool = Field(False, description="Hear and speak for real; needs voicebus[speech].")
    scenario: Path | None = Field(None, description="A scenario file; see docs/model-simulator.md.")
    pace: Pace = Field(
        0.0, description="Output audio at N times real time; 0 is a burst, `step` waits for a test's word."
    )
    simulator_api_key: SecretStr | None = Field(None, description="Accept this key only; any non-empty key otherwise.")
    strict_auth: bool = Field(False, description="Refuse with an HTTP status instead of an error event after the 101.")
    session_lifetime: Duration = Field(timedelta(minutes=60), description="When a session expires.")
    ping_interval: Duration = Field(timedelta(seconds=20), description="Between PINGs; also the wait for a PONG.")
    ledger: bool = Field(False, description="Serve GET /ledger: what each session truly said and heard.")
    simulator_quirks: Quirks = Field(
        default_factory=dict, description="Where servers of the protocol differ (JSON); see docs/model-simulator.md."
    )


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
        raise SettingsError(sentence(settings, error.errors()[0], given, ENV_PREFIX)) from error
