"""Fixtures of the deployment tests: helm in both major versions, and the values that the chart is rendered with."""

from pathlib import Path

import pytest

from deploy.helm import CHART, Helm, find_helm

VALUES: dict[str, list[Path]] = {"default": []} | {
    path.name.removesuffix("-values.yaml"): [path] for path in sorted((CHART / "ci").glob("*-values.yaml"))
}


@pytest.fixture(scope="session", params=[3, 4], ids=["helm-3", "helm-4"])
def helm(request: pytest.FixtureRequest) -> Helm:
    """Real Helm, once of each major version that people have."""
    return find_helm(request.param)


@pytest.fixture(params=list(VALUES.values()), ids=list(VALUES))
def values(request: pytest.FixtureRequest) -> list[Path]:
    """The values files of one rendering: none, or one of `helm/voicebus/ci`."""
    files: list[Path] = request.param
    return files
