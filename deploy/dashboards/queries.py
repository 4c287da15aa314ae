"""PromQL of the dashboards. Every selector has namespace and release, which outside Kubernetes are any, also none."""

from typing import Final

_RELEASE: Final = 'namespace=~"$namespace", release=~"$release"'


def of(metric: str, *matchers: str) -> str:
    """The series of a metric or a recording rule: `of("voicebus_draining")`."""
    return f"{metric}{{{', '.join((_RELEASE, *matchers))}}}"


def rate(metric: str, *matchers: str, by: str = "") -> str:
    """A counter's rate a second, summed over processes."""
    return f"{_sum(by)} (rate({of(metric, *matchers)}[$__rate_interval]))"


def quantile(share: float, histogram: str, *matchers: str, by: str = "") -> str:
    """A quantile of a histogram over all processes; for those that no recording rule has."""
    labels = f"{by}, le" if by else "le"
    buckets = f"sum by ({labels}) (rate({of(f'{histogram}_bucket', *matchers)}[$__rate_interval]))"
    return f"histogram_quantile({share:g}, {buckets})"


def mean(histogram: str, *matchers: str, by: str = "") -> str:
    """The mean of what a histogram observed."""
    return f"{rate(f'{histogram}_sum', *matchers, by=by)} / {rate(f'{histogram}_count', *matchers, by=by)}"


def in_range(metric: str, *matchers: str, by: str = "") -> str:
    """By how much a counter has grown in the time that the dashboard shows.

    A labelled counter appears with its first event, which `increase` does not see: one that was not there before counts
    whole.
    """
    series = of(metric, *matchers)
    return f"{_sum(by)} (({series} unless {series} offset $__range) or increase({series}[$__range]))"


def highest(gauge: str, *matchers: str, by: str) -> str:
    """The highest of several processes that tell the same, as of streams, or of which the worst counts."""
    return f"max by ({by}) ({of(gauge, *matchers)})"


def worst(series: str, *matchers: str) -> str:
    """The highest of all series: one number, as of a latency that a recording rule has by release or tool."""
    return f"max({of(series, *matchers)})"


def total(gauge: str, *matchers: str, by: str = "") -> str:
    return f"{_sum(by)} ({of(gauge, *matchers)})"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"
