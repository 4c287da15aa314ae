"""Session funnel: from those who ask to the ends of conversations."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Number, Query, Row
from dashboards.queries import in_range, of, rate, total
from dashboards.shapes import objective, percentiles

_SLO_ALERTS = ("VoicebusAdmissionFastBurn", "VoicebusAdmissionSlowBurn")


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-sessions",
        "Session funnel",
        "Who asked for a conversation, who got one, whether the model was reached and answered, and how it ended.",
        [_funnel(), _asking(), _running()],
    )


def _funnel() -> Row:
    started, rejected = "voicebus_sessions_started_total", "voicebus_admission_rejected_total"
    return Row(
        "In the time shown",
        [
            Bars(
                "Funnel",
                "Asked: begun and not admitted. Model connected counts connections, so it is more than begun "
                "where some were replaced. Answered: a first answer began; an answer is one whose audio began, and a "
                "conversation has many.",
                [
                    Query(f"{in_range(started)} + ({in_range(rejected)} or vector(0))", "asked"),
                    Query(in_range(started), "begun"),
                    Query(in_range("voicebus_model_connect_seconds_count"), "model connected"),
                    Query(in_range("voicebus_session_first_answer_seconds_count"), "answered"),
                    Query(in_range("voicebus_response_latency_seconds_count"), "answers begun"),
                    Query(in_range("voicebus_sessions_ended_total"), "ended"),
                ],
            ),
            Bars(
                "Not admitted",
                "By reason. full, draining, unavailable and session_unavailable are our failures and count against the "
                "objective; the others are the asker's.",
                [Query(in_range(rejected, by="reason"), "{{reason}}")],
                alerts=("VoicebusRejectedWithFreeSlots", *_SLO_ALERTS),
            ),
            Bars(
                "Ends",
                "By reason: ended is the caller's own end, interrupted one that no gateway could go on with.",
                [Query(in_range("voicebus_sessions_ended_total", by="reason"), "{{reason}}")],
                alerts=("VoicebusSessionsLost",),
            ),
        ],
    )


def _asking() -> Row:
    return Row(
        "Asking",
        [
            Lines(
                "Turned away",
                "The share of those who asked and got no conversation through our fault, over 5 minutes to 6 hours.",
                objective("release:voicebus_admission_failed:ratio"),
                "percentunit",
                Limits(0.001, 0.0144),
                _SLO_ALERTS,
            ),
            Lines(
                "Credentials refused",
                "not_valid opened nothing; too_many_failures was not looked at, as too many from that place were "
                "wrong.",
                [Query(rate("voicebus_credentials_refused_total", by="reason"), "{{reason}}")],
                "ops",
                alerts=("VoicebusCredentialsGuessed",),
            ),
            Lines(
                "Limits reached",
                "Clients and conversations that met a limit: of messages, audio, time, silence or tokens.",
                [Query(rate("voicebus_limits_reached_total", by="limit"), "{{limit}}")],
                "ops",
            ),
        ],
    )


def _running() -> Row:
    return Row(
        "Running",
        [
            Lines(
                "Conversations by gateway",
                "Conversations that each gateway holds.",
                [Query(f"{of('voicebus_sessions_active')} and {of('voicebus_session_slots')} > 0", "{{instance}}")],
                stacked=True,
            ),
            Lines(
                "Length",
                "How long conversations last that ended.",
                percentiles("voicebus_session_duration_seconds"),
                "s",
            ),
            Lines(
                "Ends",
                "Conversations that end, a second.",
                [Query(rate("voicebus_sessions_ended_total", by="reason"), "{{reason}}")],
                "ops",
                stacked=True,
            ),
            Lines(
                "First answer",
                "From the begin of a conversation until its first answer begins; with the caller's first words where "
                "the agent does not speak first.",
                percentiles("voicebus_session_first_answer_seconds"),
                "s",
            ),
            Number(
                "Recorded now",
                "Conversations whose sound is recorded.",
                [Query(total("voicebus_recordings_active"), "recorded")],
                width=8,
            ),
        ],
    )
