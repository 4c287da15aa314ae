"""Capacity: room for conversations, and whether each service has enough processes."""

from dashboards.panels import Dashboard, Limits, Lines, Number, Query, Row
from dashboards.queries import highest, of, rate, total, worst


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-capacity",
        "Capacity",
        "Room for conversations against what comes, and the load of gateways, workers and streams.",
        [_now(), _gateways(), _workers()],
    )


def _now() -> Row:
    slots, active = of("release:voicebus_session_slots:sum"), of("release:voicebus_sessions_active:sum")
    free, begun = of("release:voicebus_session_slots_free:sum"), of("release:voicebus_sessions_started:rate5m")
    return Row(
        "Now",
        [
            Number(
                "Gateways",
                "Gateways that are scraped.",
                [Query(f"count({of('voicebus_session_slots')} > 0)", "gateways")],
                alerts=("VoicebusGatewaysAbsent",),
            ),
            Number("Slots", "Conversations that all gateways may hold.", [Query(f"sum({slots})", "slots")]),
            Number(
                "Used",
                "The share of slots that are taken.",
                [Query(f"sum({active}) / sum({slots})", "used")],
                "percentunit",
                Limits(0.7, 0.9),
                ("VoicebusNoSlots",),
            ),
            Number(
                "Free",
                "Conversations that could begin now, without the slots of gateways that stop.",
                [Query(f"sum({free})", "free")],
                limits=Limits(20, 1, low=True),
                alerts=("VoicebusNoSlots",),
            ),
            Number(
                "Begin a minute",
                "Conversations that begin in a minute: about what comes while a new gateway starts.",
                [Query(f"60 * sum({begun})", "a minute")],
            ),
            Number(
                "Full in",
                "How long the free slots last for what comes now, if nobody hung up. A new gateway takes about a "
                "minute.",
                [Query(f"sum({free}) / clamp_min(sum({begun}), 0.0001)", "until full")],
                "s",
                Limits(120, 60, low=True),
                ("VoicebusCapacityShort",),
            ),
        ],
    )


def _gateways() -> Row:
    return Row(
        "Gateways",
        [
            Lines(
                "Slots",
                "Slots of all gateways, those in use and those free. Where free comes near what begins in a "
                "minute, callers "
                "will be turned away.",
                [
                    Query(total("release:voicebus_session_slots:sum"), "slots"),
                    Query(total("release:voicebus_sessions_active:sum"), "in use"),
                    Query(total("release:voicebus_session_slots_free:sum"), "free"),
                    Query(f"60 * {total('release:voicebus_sessions_started:rate5m')}", "begin in a minute"),
                ],
                alerts=("VoicebusCapacityShort", "VoicebusNoSlots"),
            ),
            Lines(
                "Use of each gateway",
                "The share of its slots that a gateway has given. They should be alike.",
                [Query(f"{of('voicebus_sessions_active')} / ({of('voicebus_session_slots')} > 0)", "{{instance}}")],
                "percentunit",
                Limits(0.7, 0.9),
                ("VoicebusRejectedWithFreeSlots",),
            ),
            Lines(
                "Turned away as full",
                "Conversations that a full gateway refused, a second.",
                [Query(rate("voicebus_admission_rejected_total", 'reason="full"', by="instance"), "{{instance}}")],
                "ops",
                alerts=("VoicebusRejectedWithFreeSlots",),
            ),
        ],
    )


def _workers() -> Row:
    return Row(
        "Workers and streams",
        [
            Lines(
                "Processes",
                "Processes of each scraped job.",
                [Query(f"count by (job) ({of('voicebus_event_loop_lag_seconds')})", "{{job}}")],
            ),
            Lines(
                "Event loop lag",
                "How late the slowest process of each job turned its loop at its last probe: over 50 ms it has "
                "too much work.",
                [Query(highest("voicebus_event_loop_lag_seconds", by="job"), "{{job}}")],
                "s",
                Limits(0.05, 0.1),
                ("VoicebusEventLoopLag",),
            ),
            Lines(
                "Wait on the bus (p95)",
                "From sending a message to the start of its work: what workers should be scaled on.",
                [
                    Query(worst("service:voicebus_message_queue_seconds:p95_5m", f'service="{name}"'), name)
                    for name in ("gateway", "tool-worker", "guardrail-worker")
                ],
                "s",
                Limits(0.1, 0.5),
            ),
            Lines(
                "Backlog",
                "Entries that nobody has been given yet, by stream and group.",
                [Query(of("stream:voicebus_stream_lag:max", 'group="workers"'), "{{stream}}")],
                limits=Limits(5, 20),
                alerts=("VoicebusStreamBacklog",),
            ),
            Lines(
                "In hand",
                "Entries that consumers have and have not finished.",
                [Query(highest("voicebus_stream_pending", 'group="workers"', by="stream"), "{{stream}}")],
            ),
            Lines(
                "Events to archive",
                "Events that wait for the archiver.",
                [Query(total("stream:voicebus_stream_lag:max", 'group="archiver"'), "waiting")],
                alerts=("VoicebusArchiveBehind",),
            ),
        ],
    )
