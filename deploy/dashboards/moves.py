"""Drains and takeovers: conversations that change their gateway."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Query, Row
from dashboards.queries import in_range, of, rate, total
from dashboards.shapes import percentiles


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-moves",
        "Drains and takeovers",
        "Processes that stop, and conversations that go on at another gateway: planned, or after a death.",
        [_drains(), _takeovers(), _work()],
    )


def _drains() -> Row:
    draining = of("voicebus_draining")
    return Row(
        "Drains",
        [
            Lines(
                "Stopping",
                "Processes of each scraped job that finish their work and take no more.",
                [Query(total("voicebus_draining", by="job"), "{{job}}")],
                alerts=("VoicebusDrainStuck",),
            ),
            Lines(
                "Left at stopping gateways",
                "Conversations that a stopping gateway still holds: it falls to none, then the process ends.",
                [
                    Query(
                        f"{of('voicebus_sessions_active')} > 0 and on (namespace, job, instance) {draining} == 1",
                        "{{instance}}",
                    )
                ],
                alerts=("VoicebusDrainStuck",),
            ),
            Lines(
                "Processes",
                "Processes of each job, so that a rollout shows.",
                [Query(f"count by (job) ({draining})", "{{job}}")],
            ),
        ],
    )


def _takeovers() -> Row:
    return Row(
        "Conversations that move",
        [
            Bars(
                "In the time shown",
                "drain moves those of a gateway that stops, takeover those of one that died. lost: another gateway was "
                "quicker; failed: the conversation could not go on.",
                [Query(in_range("voicebus_session_migrations_total", by="cause, outcome"), "{{cause}}: {{outcome}}")],
                alerts=("VoicebusSessionsLost",),
            ),
            Lines(
                "Moves",
                "Conversations that were to go on at another gateway, a second.",
                [Query(rate("voicebus_session_migrations_total", by="cause, outcome"), "{{cause}}: {{outcome}}")],
                "ops",
                alerts=("VoicebusSessionsLost",),
            ),
            Lines(
                "Taken over after",
                "From taking a dead gateway's conversation until it is live. The end of its heartbeat, up to 2.5 "
                "s, comes before.",
                percentiles("voicebus_session_takeover_seconds"),
                "s",
                Limits(1, 3),
                ("VoicebusTakeoverSlow",),
            ),
        ],
    )


def _work() -> Row:
    return Row(
        "Work of dead and stopped workers",
        [
            Lines(
                "Taken over",
                "Entries that were taken over, by why: dead is a consumer whose heartbeat ended.",
                [Query(rate("voicebus_messages_claimed_total", by="service, cause"), "{{service}}: {{cause}}")],
                "ops",
            ),
            Lines(
                "Redis",
                "Connections that broke, and masters that were found to be new ones, a second.",
                [
                    Query(rate("voicebus_redis_disruptions_total", by="service"), "{{service}} disrupted"),
                    Query(rate("voicebus_redis_failovers_total", by="service"), "{{service}} new master"),
                ],
                "ops",
                alerts=("VoicebusRedisDisrupted",),
            ),
            Bars(
                "Interrupted conversations",
                "Conversations that no gateway went on with, closed by the archiver, in the time shown.",
                [Query(in_range("voicebus_sessions_ended_total", 'reason="interrupted"'), "interrupted")],
                limits=Limits(1, 10),
            ),
        ],
    )
