"""Variables whose names are nearly those of settings."""

import re
from pathlib import Path

import pytest
import typer

from voicebus_services.cli import app
from voicebus_services.misspelled import misspelled, variables_of
from voicebus_services.settings import ArchiverSettings, GatewaySettings, ToolWorkerSettings

ROOT = Path(__file__).parents[2]
KNOWN = variables_of(typer.main.get_command(app), [GatewaySettings, ToolWorkerSettings, ArchiverSettings])


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("VOICEBUS_REDIS_ULR", "VOICEBUS_REDIS_URL"),
        ("VOICEBUS_HTP_PORT", "VOICEBUS_HTTP_PORT"),
        ("VOICEBUS_MODEL_APIKEY", "VOICEBUS_MODEL_API_KEY"),
        ("VOICEBUS_MODEL_API_KEYFILE", "VOICEBUS_MODEL_API_KEY_FILE"),
        ("VOICEBUS_MAX_SESSION", "VOICEBUS_MAX_SESSIONS"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(variable: str, meant: str) -> None:
    assert misspelled([variable], KNOWN) == {variable: meant}


def test_what_is_read_and_what_is_somebody_elses_is_none() -> None:
    read = ["VOICEBUS_API_KEY_FILE", "VOICEBUS_API_KEYS_FILE", "VOICEBUS_GATEWAYS", "VOICEBUS_REDIS_URL_FILE"]
    others = ["VOICEBUS_OUR_REGION", "REDIS_ULR", "VOICEBUS_GATEWAY_SERVICE_HOST", "VOICEBUS_GATEWAY_PORT"]
    assert misspelled([*read, *others], KNOWN) == {}


def test_what_the_chart_and_the_compose_file_set_is_none() -> None:
    files = [ROOT / "docker-compose.yml", *(ROOT / "helm/voicebus/templates").iterdir()]
    named = {name for file in files for name in re.findall(r"VOICEBUS_[A-Z0-9_]+", file.read_text(encoding="utf-8"))}
    assert "VOICEBUS_REDIS_URL" in named
    assert misspelled(named, KNOWN) == {}
