"""Every expression of dashboards and rules has data in a real Prometheus that scrapes a real cluster.

Most have it from a few conversations. The others have it once what they are about has happened, so it is made to
happen (`Story`): a tool that fails until it rests, a worker, a gateway and an archiver that are killed, a Redis that is
started anew, a model that cannot be reached, a client that is turned away.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml

from dashboards.runbooks import RULES
from observability.expressions import of_alerts, of_autoscaling, of_dashboards, of_recording_rules, with_bool
from observability.story import Story
from observability.timelapse import shortened, write_rules
from observability.watching import Watch
from support.cluster import running_cluster
from support.cutting_proxy import cutting_proxy
from support.prometheus import PROGRAM, PrometheusServer
from support.servers import RedisServer
from support.tasks import running
from voicebus.contracts.streams import Keys

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Prometheus here: apt-get install prometheus (.ci/run does)"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("expressions"),
]

PANELS: Final = of_dashboards()
RECORDED: Final = of_recording_rules()
ALERTS: Final = of_alerts()
SCALING: Final = of_autoscaling()

KEYS: Final = Keys("observed", event_shards=2, guardrail_shards=1)


@dataclass(frozen=True)
class Seen:
    """What had data while the story was played, and what went otherwise in it."""

    had: frozenset[str]
    fired: frozenset[str]
    wrong: Sequence[BaseException]

    def require(self, expression: str, what: str) -> None:
        assert expression in self.had, (
            f"{what}: no data of {expression}; in the story: {self.wrong or 'nothing'} went wrong"
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    """The story, played once in a cluster of its own."""
    folder: Path = tmp_path_factory.mktemp("observed")
    (folder / "api-keys").write_text("trial:nobody-knows-this-key\n")
    policy = {"redact": ["email"], "keep": "3s", "keep_recordings": "2s"}
    (folder / "privacy.yaml").write_text(yaml.safe_dump({"default": policy}))
    expressions = {
        *PANELS.values(),
        *RECORDED.values(),
        *map(with_bool, ALERTS.values()),
        *SCALING.values(),
    }
    targets = ["support.observed_desk:runner", "support.observed_desk:holding"]
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(persistent=True))
        prometheus = stack.enter_context(PrometheusServer(sorted(RULES.glob("*.yml"))))
        lapse = stack.enter_context(PrometheusServer(write_rules(folder)))
        cluster = await stack.enter_async_context(
            running_cluster(
                redis_url=redis.url,
                database_url=f"sqlite:///{folder / 'v.db'}",
                stream_prefix=KEYS.prefix,
                targets=targets,
                gateways=0,
                event_shards=KEYS.event_shards,
                guardrail_shards=KEYS.guardrail_shards,
                recordings_url=f"file://{folder}/recordings",
                privacy_file=folder / "privacy.yaml",
                retention_every="2s",
                events_max_age="20s",
                resume_grace="7s",
                guardrail_timeout="1s",
                drain_timeout="20s",
            )
        )
        model = await stack.enter_async_context(cutting_proxy(cluster.simulator.port))
        cluster.environment["VOICEBUS_MODEL_URL"] = f"ws://127.0.0.1:{model.port}/v1/realtime"
        cluster.targets = targets[:1]
        bus = await stack.enter_async_context(cutting_proxy(redis.port))
        await cluster.start("gateway", max_sessions=5, redis_url=f"redis://127.0.0.1:{bus.port}/0")
        cluster.targets = targets
        await cluster.start("gateway", max_sessions=4, max_message_bytes=65536)
        await cluster.start(
            "transcript-archiver", api_keys_file=folder / "api-keys", max_failed_credentials_per_minute=2
        )
        watch = Watch(prometheus, lapse, set(expressions))
        callers = await stack.enter_async_context(AsyncExitStack())
        story = Story(cluster, model, bus, prometheus, watch, redis, KEYS, folder, PANELS, callers)
        story.scrape()
        await prometheus.until_scraped(7)
        await lapse.until_scraped(7)
        async with running(watch.run(), watch.follow_alerts()):
            wrong = await story.play()
        yield Seen(frozenset(watch.had), frozenset(watch.fired), wrong)


@pytest.mark.parametrize("place", PANELS)
def test_a_panel_has_data(place: str, seen: Seen) -> None:
    seen.require(PANELS[place], place)


@pytest.mark.parametrize("rule", RECORDED)
def test_a_recording_rule_has_data(rule: str, seen: Seen) -> None:
    seen.require(RECORDED[rule], rule)


@pytest.mark.parametrize("query", SCALING)
def test_what_gateways_are_scaled_on_has_data(query: str, seen: Seen) -> None:
    seen.require(SCALING[query], query)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_in_time_lapse_from_the_fault_that_it_is_for(alert: str, seen: Seen) -> None:
    assert alert in seen.fired, f"{alert}; in the story: {seen.wrong or 'nothing'} went wrong"


@pytest.mark.parametrize("alert", ALERTS)
def test_what_an_alert_compares_has_data(alert: str, seen: Seen) -> None:
    seen.require(with_bool(ALERTS[alert]), alert)


def test_the_story_went_as_it_is_told(seen: Seen) -> None:
    if seen.wrong:
        raise BaseExceptionGroup("the story", seen.wrong)


def test_times_are_shortened_and_numbers_are_not() -> None:
    expression = "rate(a_total[5m]) unless present_over_time(b[1h] offset 10m) > 60 * c:rate5m"
    assert shortened(expression) == "rate(a_total[5s]) unless present_over_time(b[60s] offset 10s) > 60 * c:rate5m"
    assert shortened("a_seconds > 300 or b_seconds > 5 * 60") == "a_seconds > 300 or b_seconds > 5"
