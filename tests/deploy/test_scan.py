"""What the policy scanner is not asked about is a decision, and the page says so."""

import re
from pathlib import Path

import yaml

from deploy.helm import ROOT
from deploy.scan import CONFIG, DOCKERFILE, EXAMPLES

PAGE = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")


def test_every_exception_has_its_reason_beside_it_and_on_the_page() -> None:
    text = CONFIG.read_text(encoding="utf-8")
    skipped = yaml.safe_load(text)["skip-check"]
    assert skipped == sorted(set(re.findall(r"`(CKV_K8S_\d+)`", PAGE)), key=skipped.index)
    lines = text.splitlines()
    for check in skipped:
        before = lines[lines.index(f"  - {check}") - 1]
        assert before.startswith("  # "), f"{check} has no reason"


def test_the_dockerfile_is_linted_whole() -> None:
    assert "hadolint ignore" not in DOCKERFILE.read_text(encoding="utf-8")
    assert not list(ROOT.glob(".hadolint*"))


def test_every_example_is_scanned() -> None:
    assert {path.name for path in EXAMPLES} == {path.name for path in Path(ROOT / "helm/voicebus/examples").iterdir()}


def test_continuous_integration_scans() -> None:
    assert "make scan" in (ROOT / ".ci/run").read_text(encoding="utf-8")
