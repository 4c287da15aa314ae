"""The chart under a policy scanner, the Dockerfile under a linter, and what an image is made of: `make scan`.

    python -m deploy.scan [--sbom FILE]

Each example is rendered by Helm and judged by checkov, as deploy/scan/checkov.yaml says; the Dockerfile is judged by
hadolint, which is asked about everything; the software bill of materials (CycloneDX) is written from the hashed
requirements that an image is built of. The tools have environments of their own in .cache/scan, as they do not fit
beside ours. Where one cannot be installed that is said, and is no failure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

from deploy.helm import CACHE, CHART, ROOT, HelmUnavailableError, find_helm

CONFIG: Final = ROOT / "deploy/scan/checkov.yaml"
EXAMPLES: Final = sorted((CHART / "examples").glob("*.yaml"))
DOCKERFILE: Final = ROOT / "deploy/docker/Dockerfile"
SBOM: Final = ROOT / ".cache/scan/voicebus.cdx.json"


class UnavailableError(Exception):
    """A tool cannot be had here; the text says why."""


def environment(tool: str) -> Path:
    """The programs of the environment that `requirements/TOOL.txt` describes, made once.

    Raises:
        UnavailableError: pip could not install it.
    """
    folder, pins = CACHE.parent / "scan" / tool, ROOT / f"requirements/{tool}.txt"
    made = folder / "made-of.txt"
    if not made.exists() or made.read_bytes() != pins.read_bytes():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        result = subprocess.run(
            [*command, "--require-hashes", f"--requirement={pins}"], check=False, capture_output=True, text=True
        )
        if result.returncode != 0:
            raise UnavailableError(f"pip could not install {tool}: {result.stderr.strip().splitlines()[-1:]}")
        made.write_bytes(pins.read_bytes())
    return folder / "bin"


def scan() -> bool:
    """Whether the scanner finds nothing in any example."""
    program = environment("checkov") / "checkov"
    try:
        helm = find_helm(3)
    except HelmUnavailableError as error:
        raise UnavailableError(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES:
            rendered = helm.template(values=[example])
            if rendered.returncode != 0:
                raise SystemExit(f"scan: {example.name}: {rendered.stderr}")
            (Path(folder) / example.name).write_text(rendered.stdout, encoding="utf-8")
        command = [str(program), f"--directory={folder}", f"--config-file={CONFIG}", "--output=json", "--soft-fail"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        result = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**kept, "LOG_LEVEL": "ERROR"}
        )
        if result.returncode != 0:
            raise SystemExit(f"scan: checkov failed: {result.stderr.strip()[-2000:]}")
        found = json.loads(result.stdout)
    for check in found["results"]["failed_checks"]:
        print(f"scan: {check['file_path'].lstrip('/')}: {check['resource']}: {check['check_id']} {check['check_name']}")
    summary = found["summary"]
    print(f"scan: {len(EXAMPLES)} examples, {summary['passed']} checks passed, {summary['failed']} failed")
    return bool(summary["passed"] and not summary["failed"])


def lint() -> bool:
    """Whether the linter has nothing to say against the Dockerfile."""
    program = environment("hadolint") / "hadolint"
    command = [str(program), "--no-color", "--failure-threshold=style", str(DOCKERFILE)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    print(
        f"lint: {DOCKERFILE.relative_to(ROOT)}: {(result.stdout + result.stderr).strip() or 'nothing to complain of'}"
    )
    return result.returncode == 0


def bill(target: Path) -> None:
    """Write what an image is made of."""
    program = environment("sbom") / "cyclonedx-py"
    target.parent.mkdir(parents=True, exist_ok=True)
    pins = ROOT / "requirements/image.txt"
    arguments = ["requirements", str(pins), "--output-format=JSON", f"--output-file={target}"]
    arguments += [f"--pyproject={ROOT / 'pyproject.toml'}", "--output-reproducible"]
    subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
    components = json.loads(target.read_text(encoding="utf-8"))["components"]
    print(f"sbom: {len(components)} components in {target}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path, default=SBOM, help="where to write the bill of materials")
    given = parser.parse_args()
    clean = True
    for what, work in (("scan", scan), ("lint", lint), ("sbom", lambda: bill(given.sbom))):
        try:
            clean = work() is not False and clean
        except UnavailableError as error:
            print(f"{what}: skipped: {error}", file=sys.stderr)
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
