"""What a `ToolWorker` takes from its arguments, else from the environment."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from voicebus.adapters.redis.address import SCHEMES, address_of
from voicebus.agents.tools.invoke import MAX_OUTPUT_CHARS
from voicebus.contracts.streams import QUEUE_NAME, unreserved
from voicebus.durations import duration
from voicebus.errors import SettingsError, UserError
from voicebus.runtime.consumer import MAX_DELIVERIES
from voicebus.secret_files import FileSettings

_PREFIX = "VOICEBUS_"

Duration = Annotated[timedelta, BeforeValidator(duration)]


class WorkerSettings(FileSettings):
    """Named and limited as the settings of the service `voicebus tool-worker` are."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_username: str | None = None
    redis_password: SecretStr | None = None
    redis_sentinel_password: SecretStr | None = None
    redis_tls_ca: Path | None = None
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        pattern=rf"^({'|'.join(map(re.escape, SCHEMES))})://.+",
        validate_default=True,
    )
    queue: Annotated[str, Field(pattern=f"^{QUEUE_NAME}$"), AfterValidator(unreserved)] | None = None
    concurrency: int = Field(20, ge=1, le=10_000)
    tool_timeout: Duration = Field(timedelta(seconds=30), gt=timedelta(0))
    drain_timeout: Duration = timedelta(seconds=60)
    max_deliveries: int = Field(MAX_DELIVERIES, ge=1, le=1000)
    max_result: int = Field(MAX_OUTPUT_CHARS, ge=1)
    processes: int = Field(0, ge=0, le=256)
    stream_prefix: str = Field("vb", pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    event_shards: int = Field(16, ge=1, le=1024)
    guardrail_shards: int = Field(4, ge=1, le=1024)
    wait_for_redis: bool = False

    @field_validator("redis_url")
    @classmethod
    def _with_access(cls, value: str, info: ValidationInfo) -> str:
        return address_of(value, info.data)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """What is `given`; for what is None the environment, or the file that `VOICEBUS_X_FILE` names.

        Raises:
            UserError: an argument cannot be.
            SettingsError: a variable cannot be.
        """
        arguments = {name: value for name, value in given.items() if value is not None}
        for name, value in arguments.items():
            # Of True pydantic would make 1, and of bytes a text.
            if isinstance(value, bool | bytes) and cls.model_fields[name].annotation is not bool:
                # Not in words: an address holds a password.
                raise UserError(f"ToolWorker: {name} cannot be a {type(value).__name__}")
        try:
            return cls(**arguments)
        except ValidationError as error:
            report = error.errors()[0]
            name, value = str(report["loc"][0]), report["input"]
            # An address may hold a password.
            shown = "an address" if name == "redis_url" else repr(value)
            why = str(report["msg"]).removeprefix("Value error, ")
            if name in arguments:
                raise UserError(f"ToolWorker: {name} cannot be {shown}: {why[0].lower()}{why[1:]}") from None
            raise SettingsError(f"{_PREFIX}{name.upper()}: {shown} was read, but {why[0].lower()}{why[1:]}") from None
