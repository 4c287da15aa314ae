"""Fixtures of the deployment tests: helm in both major versions, and the values that the chart is rendered with."""

from pathlib import Path

import pytest

from deploy.helm import CHART, Helm, find_helm

VALUES: dict[str, tuple[Path, ...]] = {
    "minimal": (),
    "full": (CHART / "ci" / "full-values.yaml",),
    **{path.stem: (path,) for path in sorted((CHART / "examples").glob("*.yaml"))},
}


@pytest.fixture(scope="session", params=[3, 4], ids=["helm-3", "helm-4"])
def helms(request: pytest.FixtureRequest) -> Helm:
    """Real Helm, once of each major version that people have."""
    return find_helm(request.param)


@pytest.fixture(scope="session")
def helm() -> Helm:
    """One Helm, for what is the same with both (`test_both_helms_render_the_same`)."""
    return find_helm(4)


@pytest.fixture(params=list(VALUES.values()), ids=list(VALUES))
def values(request: pytest.FixtureRequest) -> tuple[Path, ...]:
    """The values files of one rendering: none, `helm/voicebus/ci`, or one of `helm/voicebus/examples`."""
    files: tuple[Path, ...] = request.param
    return files
