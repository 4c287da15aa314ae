"""Turn latency: how soon answers begin, and what callers hear instead."""

from dashboards.panels import Dashboard, Limits, Lines, Query, Row
from dashboards.queries import highest, of, quantile, rate, worst
from dashboards.shapes import objective, percentiles


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-turns",
        "Turn latency",
        "How soon answers begin after the user has stopped speaking, silence in their place, and what they wait for.",
        [_answers(), _parts()],
    )


def _answers() -> Row:
    alerts = ("VoicebusAnswersSlow", "VoicebusAnswersFastBurn", "VoicebusAnswersSlowBurn")
    return Row(
        "Answers",
        [
            Lines(
                "Answers begin after",
                "From the end of a user's turn to the first audio sent. People notice from about a second on.",
                percentiles("voicebus_response_latency_seconds", ("p50", "p95", "p99"), names=("p50", "p95", "p99")),
                "s",
                Limits(1.5, 3),
                alerts,
                width=12,
            ),
            Lines(
                "Late answers",
                "The share of answers that began after more than 1.5 s. The objective is 5 % in a month.",
                objective("release:voicebus_responses_slow:ratio"),
                "percentunit",
                Limits(0.05, 0.72),
                alerts,
                width=12,
            ),
            Lines(
                "By gateway (p95)",
                "A gateway whose answers begin later than others' is overloaded, or far from the model.",
                [Query(quantile(0.95, "voicebus_response_latency_seconds", by="instance"), "{{instance}}")],
                "s",
                Limits(1.5, 3),
            ),
            Lines(
                "Dead air",
                "The share of the time of running conversations in which an answer was overdue by 3 s or more.",
                [
                    Query(
                        f"{rate('voicebus_dead_air_seconds_total')} / "
                        f"clamp_min(sum({of('release:voicebus_sessions_active:sum')}), 1)",
                        "overdue",
                    )
                ],
                "percentunit",
                Limits(0.01, 0.02),
                ("VoicebusDeadAir",),
            ),
            Lines(
                "Interrupted answers",
                "Answers that the user spoke into, a second. Many may mean that answers are long, or noise is "
                "taken for speech.",
                [Query(rate("voicebus_barge_in_total"), "interrupted")],
                "ops",
            ),
        ],
    )


def _parts() -> Row:
    return Row(
        "What an answer waits for",
        [
            Lines(
                "Messages on the bus (p95)",
                "From sending a message to the start of its work, by the service that took it.",
                [Query(of("service:voicebus_message_queue_seconds:p95_5m"), "{{service}}")],
                "s",
                Limits(0.1, 0.5),
            ),
            Lines(
                "Messages on the bus (p99)",
                "The same for 99 of 100 messages.",
                [Query(of("service:voicebus_message_queue_seconds:p99_5m"), "{{service}}")],
                "s",
                Limits(0.1, 0.5),
            ),
            Lines(
                "Event loop of gateways",
                "How late each gateway turned its loop at its last probe: all its conversations wait for that.",
                [
                    Query(
                        f"{highest('voicebus_event_loop_lag_seconds', by='instance')} "
                        f"and on (instance) {of('voicebus_session_slots')} > 0",
                        "{{instance}}",
                    )
                ],
                "s",
                Limits(0.05, 0.1),
                ("VoicebusEventLoopLag",),
            ),
            Lines(
                "Held speech behind its sound (p95)",
                "How far the transcript of held speech comes behind it: hold_window_ms has to be longer.",
                [Query(quantile(0.95, "voicebus_hold_transcript_lag_seconds"), "p95")],
                "s",
            ),
            Lines(
                "Holding failed",
                "Held parts whose transcript came too late for the window, so that the whole answer was held, a "
                "second.",
                [Query(rate("voicebus_hold_window_broken_total"), "held whole")],
                "ops",
                alerts=("VoicebusHoldWindowBroken",),
            ),
            Lines(
                "Slowest tool (p95)",
                "An answer that needs a tool waits for it.",
                [Query(worst("tool:voicebus_tool_duration_seconds:p95_5m"), "slowest")],
                "s",
            ),
        ],
    )
