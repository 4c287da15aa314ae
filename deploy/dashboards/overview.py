"""Overview: how it goes, and rate, errors and duration of each service."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Number, Query, Row
from dashboards.queries import highest, in_range, of, rate, total, worst
from dashboards.shapes import percentiles

_SLO_ALERTS = ("VoicebusAdmissionFastBurn", "VoicebusAdmissionSlowBurn")
_ANSWER_ALERTS = ("VoicebusAnswersSlow", "VoicebusAnswersFastBurn", "VoicebusAnswersSlowBurn")


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-overview",
        "Overview",
        "The state of the whole cluster: what callers notice first, then rate, errors and duration of each service.",
        [_now(), _gateway(), _tool_workers(), _guardrail_workers(), _archiver(), _processes()],
    )


def _now() -> Row:
    firing = of("ALERTS", 'alertname=~"Voicebus.*"', 'alertstate="firing"')
    return Row(
        "Now",
        [
            Number(
                "Alerts",
                "Alerts of Voicebus that fire now; their pages are in the dashboard of runbooks.",
                [Query(f"count({firing}) or vector(0)", "firing")],
                limits=Limits(1, 3),
            ),
            Number(
                "Conversations",
                "Conversations that gateways hold now.",
                [Query(total("release:voicebus_sessions_active:sum"), "now")],
            ),
            Number(
                "Free slots",
                "Conversations that could begin now, without the slots of gateways that stop.",
                [Query(total("release:voicebus_session_slots_free:sum"), "free")],
                limits=Limits(20, 1, low=True),
                alerts=("VoicebusNoSlots",),
            ),
            Number(
                "Turned away",
                "The share of those who asked in the last five minutes and got no conversation through our fault. The "
                "objective is 0.1 % in a month.",
                [Query(worst("release:voicebus_admission_failed:ratio5m"), "turned away")],
                "percentunit",
                Limits(0.001, 0.0144),
                _SLO_ALERTS,
            ),
            Number(
                "Answers begin after (p95)",
                "From the end of a user's turn to the first audio of the answer, for 19 in 20 answers.",
                [Query(worst("release:voicebus_response_latency_seconds:p95_5m"), "p95")],
                "s",
                Limits(1.5, 3),
                _ANSWER_ALERTS,
            ),
            Number(
                "Dead letters",
                "Entries that were given up and that nobody has replayed or dropped: voicebus dead-letters list.",
                [Query(f"sum({highest('voicebus_dead_letters', by='namespace, release, queue')})", "lying")],
                limits=Limits(1, 100),
                alerts=("VoicebusDeadLetters",),
            ),
        ],
    )


def _gateway() -> Row:
    return Row(
        "Gateway",
        [
            Lines(
                "Conversations begun and refused",
                "How many conversations begin, and how many are not admitted, a second.",
                [
                    Query(rate("voicebus_sessions_started_total"), "begun"),
                    Query(rate("voicebus_admission_rejected_total"), "refused"),
                ],
                "ops",
                alerts=_SLO_ALERTS,
            ),
            Lines(
                "Errors",
                "Errors of the model link, sockets of the model that had to be replaced, and conversations that "
                "ended in "
                "another way than by their caller, a second.",
                [
                    Query(rate("voicebus_model_errors_total"), "model errors"),
                    Query(rate("voicebus_model_reconnects_total"), "model reconnects"),
                    Query(rate("voicebus_sessions_ended_total", 'reason!="ended"'), "ended for another reason"),
                ],
                "ops",
                alerts=("VoicebusModelErrors", "VoicebusModelReconnects"),
            ),
            Lines(
                "Answers begin after",
                "From the end of a user's turn to the first audio of the answer.",
                percentiles("voicebus_response_latency_seconds", ("p50", "p95", "p99"), names=("p50", "p95", "p99")),
                "s",
                Limits(1.5, 3),
                _ANSWER_ALERTS,
            ),
        ],
    )


def _tool_workers() -> Row:
    failed = 'outcome=~"error|timeout|unknown|expired"'
    return Row(
        "Tool workers",
        [
            Lines(
                "Calls",
                "Tool calls that ended, and those that a gateway answered itself, a second.",
                [
                    Query(rate("voicebus_tool_outcomes_total"), "ended"),
                    Query(rate("voicebus_tool_calls_refused_total"), "refused"),
                ],
                "ops",
                alerts=("VoicebusToolCallsRefused",),
            ),
            Lines(
                "Failed calls",
                "Calls that ended with an error, late, expired, or without anyone knowing whether they took effect.",
                [Query(rate("voicebus_tool_outcomes_total", failed, by="outcome"), "{{outcome}}")],
                "ops",
                alerts=("VoicebusToolFailing", "VoicebusToolOutcomeUnknown"),
            ),
            Lines(
                "Duration (p95)",
                "How long calls wait for a worker, and how long the slowest tool takes.",
                [
                    Query(worst("service:voicebus_message_queue_seconds:p95_5m", 'service="tool-worker"'), "wait"),
                    Query(worst("tool:voicebus_tool_duration_seconds:p95_5m"), "slowest tool"),
                ],
                "s",
                alerts=("VoicebusStreamBacklog",),
            ),
        ],
    )


def _guardrail_workers() -> Row:
    return Row(
        "Guardrail workers",
        [
            Lines(
                "Checks",
                "Checks that guardrails made, and answers that they stopped, a second.",
                [
                    Query(rate("voicebus_guardrail_latency_seconds_count"), "made"),
                    Query(rate("voicebus_guardrail_trips_total"), "tripped"),
                ],
                "ops",
            ),
            Lines(
                "Not judged",
                "Answers and turns that could not be judged: open let them pass, closed stopped them.",
                [Query(rate("voicebus_guardrail_unjudged_total", by="policy"), "{{policy}}")],
                "ops",
                alerts=("VoicebusUnjudgedPassed", "VoicebusUnjudgedStopped"),
            ),
            Lines(
                "Duration (p95)",
                "How long checks wait for a worker, and how long the slowest guardrail takes.",
                [
                    Query(
                        worst("service:voicebus_message_queue_seconds:p95_5m", 'service="guardrail-worker"'),
                        "wait",
                    ),
                    Query(worst("rule:voicebus_guardrail_latency_seconds:p95_5m"), "slowest guardrail"),
                ],
                "s",
            ),
        ],
    )


def _archiver() -> Row:
    return Row(
        "Transcript archiver",
        [
            Lines(
                "Events",
                "Recorded events that were written, a second.",
                [Query(rate("voicebus_transcript_write_lag_seconds_count"), "written")],
                "ops",
            ),
            Bars(
                "Lost",
                "Events that never arrived, and those that a registered group was too slow for, in the time shown.",
                [
                    Query(in_range("voicebus_transcript_gaps_total"), "gaps"),
                    Query(in_range("voicebus_events_lost_total"), "trimmed unread"),
                ],
                alerts=("VoicebusTranscriptGaps", "VoicebusEventsLost"),
            ),
            Lines(
                "Written after (p95)",
                "From a recorded event to its commit in the database.",
                [Query(worst("release:voicebus_transcript_write_lag_seconds:p95_5m"), "p95")],
                "s",
                Limits(2, 4),
                ("VoicebusArchiveSlow",),
            ),
        ],
    )


def _processes() -> Row:
    return Row(
        "Processes",
        [
            Lines(
                "Running",
                "Processes of each scraped job.",
                [Query(f"count by (job) ({of('voicebus_event_loop_lag_seconds')})", "{{job}}")],
                alerts=("VoicebusGatewaysAbsent",),
            ),
            Lines(
                "Event loop lag",
                "How late the slowest process of each job turned its loop at its last probe.",
                [Query(highest("voicebus_event_loop_lag_seconds", by="job"), "{{job}}")],
                "s",
                Limits(0.05, 0.1),
                ("VoicebusEventLoopLag",),
            ),
            Lines(
                "Redis",
                "Connections to Redis that broke, and masters that were found to be new ones, a second.",
                [
                    Query(rate("voicebus_redis_disruptions_total", by="service"), "{{service}} disrupted"),
                    Query(rate("voicebus_redis_failovers_total", by="service"), "{{service}} new master"),
                ],
                "ops",
                alerts=("VoicebusRedisDisrupted",),
            ),
            Lines(
                "Stopping",
                "Processes that finish their work and take no more.",
                [Query(total("voicebus_draining", by="job"), "{{job}}")],
                alerts=("VoicebusDrainStuck",),
            ),
        ],
    )
