"""Guardrails: what they stop, how soon, and what passed without them."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Query, Row, Variable
from dashboards.queries import highest, in_range, mean, of, quantile, rate
from dashboards.shapes import percentiles

_RULE = 'rule=~"$rule"'
_STREAM = 'stream=~".*:guardrails:.*"'


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-guardrails",
        "Guardrails",
        "What guardrails stop and how soon, what could not be judged, and whether their workers keep up.",
        [_rules(), _unjudged(), _workers()],
        [Variable("rule", "Rule", f"label_values({of('voicebus_guardrail_latency_seconds_count')}, rule)")],
    )


def _rules() -> Row:
    return Row(
        "Rules",
        [
            Bars(
                "Tripped",
                "Answers and turns that a rule stopped in the time shown.",
                [Query(in_range("voicebus_guardrail_trips_total", _RULE, by="rule"), "{{rule}}")],
            ),
            Lines(
                "Checks",
                "Checks that were made, a second. The text of one answer is checked several times.",
                [Query(rate("voicebus_guardrail_latency_seconds_count", _RULE, by="rule"), "{{rule}}")],
                "ops",
                stacked=True,
            ),
            Lines(
                "Run time (p95)",
                "How long a rule takes to judge.",
                [Query(of("rule:voicebus_guardrail_latency_seconds:p95_5m", _RULE), "{{rule}}")],
                "s",
            ),
            Lines(
                "Run time (mean)",
                "Beside p95, as that is the bound of a bucket where checks are few.",
                [Query(mean("voicebus_guardrail_latency_seconds", _RULE, by="rule"), "{{rule}}")],
                "s",
            ),
            Lines(
                "Stopped after",
                "From the text with which a check fell due until its answer was stopped for it.",
                percentiles("voicebus_guardrail_reaction_seconds", ["p99"], names=("p50", "p99")),
                "s",
                Limits(0.25, 0.5),
            ),
        ],
    )


def _unjudged() -> Row:
    return Row(
        "Not judged",
        [
            Bars(
                "Let pass (open)",
                "Answers and turns that a rule should have judged and that went on without it, in the time shown.",
                [
                    Query(
                        in_range("voicebus_guardrail_unjudged_total", _RULE, 'policy="open"', by="rule, cause"),
                        "{{rule}}: {{cause}}",
                    )
                ],
                limits=Limits(1, 10),
                alerts=("VoicebusUnjudgedPassed",),
            ),
            Bars(
                "Stopped (closed)",
                "Answers and turns that were stopped as a rule could not judge them, in the time shown.",
                [
                    Query(
                        in_range("voicebus_guardrail_unjudged_total", _RULE, 'policy="closed"', by="rule, cause"),
                        "{{rule}}: {{cause}}",
                    )
                ],
                limits=Limits(1, 10),
                alerts=("VoicebusUnjudgedStopped",),
            ),
            Lines(
                "Gateways without workers",
                "Gateways to which no guardrail worker answers, so that policies decide at once.",
                [Query(f"sum({of('voicebus_guardrail_circuit_open')})", "gateways")],
                limits=Limits(1, 1),
                alerts=("VoicebusGuardrailCircuitOpen",),
            ),
            Lines(
                "Resting",
                "Workers on which a rule is not asked, as it ran out of time again and again.",
                [Query(f"sum by (rule) ({of('voicebus_guardrail_rests', _RULE)})", "{{rule}}")],
                limits=Limits(1, 1),
            ),
        ],
    )


def _workers() -> Row:
    return Row(
        "Workers",
        [
            Lines(
                "Wait for a worker",
                "From sending a check to the start of its work.",
                [
                    Query(quantile(share, "voicebus_message_queue_seconds", 'service="guardrail-worker"'), name)
                    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
                "s",
                Limits(0.1, 0.5),
            ),
            Lines(
                "Superseded",
                "Checks that waited for a slot until a newer one of the same answer stood for them, a second. "
                "Many mean that "
                "workers are too few.",
                [Query(rate("voicebus_guardrail_superseded_total"), "superseded")],
                "ops",
            ),
            Lines(
                "Backlog",
                "Checks that no worker has been given yet.",
                [Query(of("stream:voicebus_stream_lag:max", _STREAM), "{{stream}}")],
                limits=Limits(5, 20),
                alerts=("VoicebusStreamBacklog",),
            ),
            Lines(
                "Oldest in hand",
                "How long ago the oldest check was sent that a worker has and has not finished.",
                [Query(of("stream:voicebus_stream_oldest_pending_seconds:max", _STREAM), "{{stream}}")],
                "s",
                Limits(2, 10),
                ("VoicebusStreamStuck",),
            ),
            Lines(
                "Workers",
                "Consumers that the group of each stream lists.",
                [Query(highest("voicebus_stream_consumers", _STREAM, by="stream"), "{{stream}}")],
            ),
        ],
    )
