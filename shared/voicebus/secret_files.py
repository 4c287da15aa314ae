"""Settings from files: `VOICEBUS_X_FILE` names one with the value of `VOICEBUS_X`, such as a mounted secret."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from voicebus.errors import SettingsError


class SecretFiles(PydanticBaseSettingsSource):
    """Reads field `x` of a settings class from the file that its prefix + `X_FILE` names, without the last newline.

    Raises:
        SettingsError: a file cannot be read.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        prefix = self.config.get("env_prefix", "")
        variable = f"{prefix}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        # `api_keys_file` is a setting of its own, not the file form of `api_keys`.
        if not path or variable.removeprefix(prefix).lower() in self.settings_cls.model_fields:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable}: {path!r} cannot be read ({error}); name a readable text file") from error

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class FileSettings(BaseSettings):
    """Settings from, first match wins: what is given, the environment, the files that `X_FILE` names, the defaults."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)
