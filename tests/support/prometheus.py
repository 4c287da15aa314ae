"""A real Prometheus that scrapes a cluster under test every second, with rules, and answers PromQL."""

import asyncio
import json
import math
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from support.cluster import Service
from support.servers import _Server
from support.waiting import wait_until

PROGRAM: Final = shutil.which("prometheus")


class PrometheusServer(_Server):
    """Scrapes what `scrape` names, under its command as `job`. `rules` are the files that it evaluates each second."""

    def __init__(self, rules: Iterable[Path] = ()) -> None:
        super().__init__()
        self._targets = self.folder / "targets.json"
        self._config = self.folder / "prometheus.yml"
        self._targets.write_text("[]")
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {"job_name": "voicebus", "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}]}
            ],
        }
        self._config.write_text(yaml.safe_dump(config))

    def scrape(self, services: Iterable[Service]) -> None:
        """Scrape these and no others."""
        groups = [
            {"targets": [f"127.0.0.1:{service.ops_port}"], "labels": {"job": service.command}} for service in services
        ]
        whole = self._targets.with_suffix(".new")
        whole.write_text(json.dumps(groups))
        whole.rename(self._targets)

    async def until_scraped(self, number: int) -> None:
        """Wait until so many processes are scraped: what they count before that is seen by no `increase`."""

        async def scraped() -> bool:
            return [one["value"][1] for one in await self.ask("count(up == 1)")] == [str(number)]

        await wait_until(scraped, description=f"{number} scraped processes", timeout=60, interval=0.2)

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now.

        Raises:
            AssertionError: it is no expression; tells what Prometheus says.
        """
        return await asyncio.to_thread(self._ask, expression)

    async def has_data(self, expression: str) -> bool:
        """Whether an expression has a series with a number now; a quantile of nothing is none."""
        series = await self.ask(expression)
        return any(math.isfinite(float(one["value"][1])) for one in series)

    def _ask(self, expression: str) -> list[dict[str, Any]]:
        data = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query", data, timeout=30) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode(errors='replace')}") from error
        return found

    def _command(self) -> Sequence[str]:
        assert PROGRAM is not None, "prometheus is not installed (Debian package prometheus)"
        return [
            PROGRAM, f"--config.file={self._config}", f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
