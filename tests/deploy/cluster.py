"""The single home of what the deployment files must agree on with the code: which service reads which settings."""

import os
from collections.abc import Mapping
from typing import Final

import pytest

from voicebus_services.settings import (
    ENV_PREFIX,
    ArchiverSettings,
    DatabaseSettings,
    GatewaySettings,
    GuardrailWorkerSettings,
    ServiceSettings,
    SimulatorSettings,
    ToolWorkerSettings,
    load,
)

SETTINGS: Final[Mapping[str, type[ServiceSettings]]] = {
    "gateway": GatewaySettings,
    "tool-worker": ToolWorkerSettings,
    "guardrail-worker": GuardrailWorkerSettings,
    "transcript-archiver": ArchiverSettings,
    "model-simulator": SimulatorSettings,
    "migrate": DatabaseSettings,
}
"""Command of the image to the class that it reads."""

SERVICES: Final = tuple(name for name in SETTINGS if name != "migrate")
"""The commands that stay up, each with an ops port."""

CLOSING_S: Final = 50.0
"""What a gateway may take behind its drain: last words 10 s, journal 30 s, outbox 5 s, HTTP 5 s."""

WITH_TARGETS: Final = ("gateway", "tool-worker", "guardrail-worker")
"""The commands that import agents: their arguments, or `VOICEBUS_TARGETS`."""


def parse(environment: Mapping[str, str], command: str, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """What the service makes of this environment, as a container that has nothing else.

    Raises:
        AssertionError: a `VOICEBUS_*` variable is none of the service's settings, so it would be ignored.
        SettingsError: as the service would.
    """
    fields = {*SETTINGS[command].model_fields, *(["targets"] if command in WITH_TARGETS else [])}
    for variable in environment:
        if variable.startswith(ENV_PREFIX):
            name = variable.removeprefix(ENV_PREFIX).lower()
            assert name in fields or name.removesuffix("_file") in fields, f"{variable} is no setting of {command}"
    with monkeypatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith(ENV_PREFIX):
                patch.delenv(variable)
        for variable, value in environment.items():
            patch.setenv(variable, value)
        return load(SETTINGS[command])
