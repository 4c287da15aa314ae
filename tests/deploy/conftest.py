"""Of the deployment tests: Helm in both major versions, the values that the chart is rendered with, the image."""

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from deploy.compose_cluster import ComposeCluster
from deploy.engines import Engine, an_engine, base_image
from deploy.helm import CHART, ROOT, Helm, find_helm

VALUES: dict[str, tuple[Path, ...]] = {
    "minimal": (),
    "full": (CHART / "ci" / "full-values.yaml",),
    **{path.stem: (path,) for path in sorted((CHART / "examples").glob("*.yaml"))},
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a test that failed beside a cluster goes what those have said last that hold and keep its calls."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, ComposeCluster):
        told = cluster.logs("gateway", "transcript-archiver", last=50)
        report.sections.append(("docker compose logs", told))
    return report


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


@pytest.fixture(scope="session")
def built() -> Iterator[tuple[Engine, str, str]]:
    """The engine, the image that it has built of this checkout, and its base."""
    missing: list[str] = []
    with an_engine(missing) as engine:
        base = None if engine is None else base_image(engine, missing)
        if engine is None or base is None:
            pytest.skip("the image is not built here: " + "; ".join(missing))
        name = f"localhost/voicebus-test:{uuid.uuid4().hex[:12]}"
        dockerfile = ROOT / "deploy/docker/Dockerfile"
        result = engine.run(
            *engine.build, f"--build-arg=BASE_IMAGE={base}", f"--file={dockerfile}", f"--tag={name}", str(ROOT)
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
        yield engine, name, base
        engine.run("rmi", name)
