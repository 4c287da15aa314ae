"""The alerts in time-lapse: every time in the rules, and with it the scrape interval, is a sixtieth of production's.

So a real fault need not last for minutes: ranges, offsets and `for` are divided by one number, and Prometheus scrapes
and evaluates each second what it does each minute elsewhere. What is compared stays as it is: shares and rates are
those of the real processes, and so are amounts, latencies and ages. Of an age of minutes, which a rule writes as
`5 * 60`, as many seconds are left.
"""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards.runbooks import RULES
from support.prometheus import PrometheusServer

FACTOR: Final = 60
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_TIME: Final = re.compile(r"(?<=\[)(\d+)([smh])(?=\])|(?<=offset )(\d+)([smh])\b")
_MINUTES: Final = re.compile(r"(?<=> )(\d+) \* 60\b")


def shortened(expression: str) -> str:
    """The expression with each range, each offset and each age of minutes divided."""
    divided = _TIME.sub(lambda found: _divided((found[1] or found[3]) + (found[2] or found[4])), expression)
    return _MINUTES.sub(r"\1", divided)


def _divided(time: str) -> str:
    seconds, rest = divmod(int(time[:-1]) * _SECONDS[time[-1]], FACTOR)
    assert rest == 0, f"{time} is no multiple of {FACTOR} s"
    return f"{seconds}s"


def write_rules(folder: Path) -> list[Path]:
    """All rules, in time-lapse."""
    made = []
    for path in sorted(RULES.glob("*.yml")):
        rules: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for rule in (rule for group in rules["groups"] for rule in group["rules"]):
            rule["expr"] = shortened(rule["expr"])
            if "for" in rule:
                rule["for"] = _divided(rule["for"])
        made.append(folder / path.name)
        made[-1].write_text(yaml.safe_dump(rules, width=10_000), encoding="utf-8")
    return made


async def firing(prometheus: PrometheusServer) -> set[str]:
    """The alerts that fire, or have fired within a minute."""
    found = await prometheus.ask('max_over_time(ALERTS{alertstate="firing"}[1m])')
    return {one["metric"]["alertname"] for one in found}
