"""`voicebus doctor` where all is well, and where the model refuses; and for one service, as in its container."""

from pathlib import Path
from typing import Any

import pytest

from support.cluster import running_cluster
from support.commands import voicebus

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("cluster")]


async def test_a_working_installation_is_found_well_and_a_refused_key_is_named(
    redis_url: str, stream_prefix: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    database_url = f"sqlite:///{tmp_path_factory.mktemp('doctor') / 'v.db'}"
    async with running_cluster(
        redis_url=redis_url,
        database_url=database_url,
        stream_prefix=stream_prefix,
        targets=["support.hotline"],
        simulator_api_key="right",
        model_api_key="right",
    ) as cluster:
        settings: dict[str, Any] = {
            "redis_url": redis_url,
            "database_url": database_url,
            "model_url": f"ws://127.0.0.1:{cluster.simulator.http_port}/v1/realtime",
        }
        well = await voicebus("doctor", "support.hotline", **settings, model_api_key="right")
        assert well.status == 0, well.out
        assert [line.split()[:2] for line in well.out.splitlines()] == [
            ["ok", check] for check in ("python", "settings", "redis", "database", "model", "targets")
        ]
        # As in a container: there is nothing but what the service itself has been given.
        alone: dict[str, tuple[tuple[str, ...], list[str]]] = {
            "gateway": (("model_url", "model_api_key"), ["model", "targets"]),
            "tool-worker": ((), ["targets"]),
            "guardrail-worker": ((), ["targets"]),
            "transcript-archiver": (("database_url",), ["database"]),
        }
        for service, (own, checked) in alone.items():
            given = {"redis_url": redis_url, **{name: {**settings, "model_api_key": "right"}[name] for name in own}}
            named = ["support.hotline"] if "targets" in checked else []
            found = await voicebus("doctor", "--for", service, *named, cwd=tmp_path, **given)
            assert found.status == 0, found.out
            assert [line.split()[:2] for line in found.out.splitlines()] == [
                ["ok", check] for check in ("python", "settings", "redis", *checked)
            ]
        refused = await voicebus("doctor", **settings, model_api_key="hunter2")
        assert refused.status == 1
        assert "invalid_api_key" in refused.out
        assert "VOICEBUS_MODEL_API_KEY" in refused.out
        assert "hunter2" not in refused.out + refused.err
