"""Archiver: whether everything that was said is written, and how soon."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Number, Query, Row
from dashboards.queries import highest, in_range, of, rate, worst
from dashboards.shapes import percentiles

_STREAM = 'stream=~".*:events:.*"'


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-archive",
        "Transcript archiver",
        "Whether all that was recorded of conversations is in the database, how soon, and what was lost or redacted.",
        [_writing(), _lost(), _contents(), _erased()],
    )


def _writing() -> Row:
    return Row(
        "Writing",
        [
            Lines(
                "Events",
                "Recorded events that were written, a second.",
                [Query(rate("voicebus_transcript_write_lag_seconds_count"), "written")],
                "ops",
            ),
            Lines(
                "Written after",
                "From a recorded event to its commit in the database.",
                percentiles("voicebus_transcript_write_lag_seconds", ["p95"]),
                "s",
                Limits(2, 4),
                ("VoicebusArchiveSlow",),
            ),
            Lines(
                "Backlog",
                "Events that wait to be archived; Redis holds them until they are.",
                [Query(f"sum({of('stream:voicebus_stream_lag:max', _STREAM)})", "waiting")],
                limits=Limits(10_000, 50_000),
                alerts=("VoicebusArchiveBehind",),
            ),
            Lines(
                "Oldest in hand",
                "How long ago the oldest event was recorded that an archiver has and has not written.",
                [Query(f"max({of('stream:voicebus_stream_oldest_pending_seconds:max', _STREAM)})", "oldest")],
                "s",
                Limits(5, 10),
                ("VoicebusStreamStuck",),
            ),
            Lines(
                "Events in Redis",
                "Entries in the streams of events. They grow while a registered group is behind.",
                [
                    Query(
                        f"sum({highest('voicebus_stream_length', _STREAM, by='namespace, release, stream')})", "entries"
                    )
                ],
            ),
            Lines(
                "Shards taken over",
                "Events that an archiver took over from another one that died, a second.",
                # There is one cause, and no series before the first death.
                [
                    Query(
                        rate("voicebus_messages_claimed_total", 'service="transcript-archiver"') + " or vector(0)",
                        "taken over",
                    )
                ],
                "ops",
            ),
        ],
    )


def _lost() -> Row:
    return Row(
        "Lost in the time shown",
        [
            Number(
                "Gaps",
                "Events that never arrived, were not to be had from their gateway or from Redis, and were given up.",
                [Query(in_range("voicebus_transcript_gaps_total"), "gaps")],
                limits=Limits(1, 10),
                alerts=("VoicebusTranscriptGaps",),
                width=6,
                height=8,
            ),
            Bars(
                "Trimmed unread",
                "Events that left a stream as too old or too many before this group had taken them.",
                [Query(in_range("voicebus_events_lost_total", by="group"), "{{group}}")],
                limits=Limits(1, 100),
                alerts=("VoicebusEventsLost",),
                width=6,
            ),
            Bars(
                "Given up",
                "Events that are no events of the contract, and went to the dead letters.",
                [
                    Query(
                        in_range("voicebus_messages_deadlettered_total", 'service="transcript-archiver"', by="reason"),
                        "{{reason}}",
                    )
                ],
                limits=Limits(1, 100),
                alerts=("VoicebusDeadLetters",),
                width=6,
            ),
            Bars(
                "Recordings failed",
                "write: given up; complete: they stayed in parts, which are read as well.",
                [Query(in_range("voicebus_recording_failures_total", by="step"), "{{step}}")],
                limits=Limits(1, 10),
                alerts=("VoicebusRecordingFailures",),
                width=6,
            ),
        ],
    )


def _contents() -> Row:
    return Row(
        "Contents",
        [
            Lines(
                "Redacted",
                "Parts of texts that a rule of the privacy file kept out of the archive, a second; and whole texts at "
                "which a rule failed.",
                [
                    Query(rate("voicebus_redactions_total", by="rule"), "{{rule}}"),
                    # No series before the first failure.
                    Query(rate("voicebus_redaction_failures_total") + " or vector(0)", "withheld whole"),
                ],
                "ops",
                width=12,
            ),
            Lines(
                "Recorded",
                "Seconds of sound that are recorded in a second.",
                [Query(rate("voicebus_recorded_seconds_total"), "recorded")],
                width=12,
            ),
        ],
    )


def _erased() -> Row:
    succeeded = of("voicebus_retention_last_success_timestamp_seconds")
    return Row(
        "Erasure",
        [
            Bars(
                "Erased sessions",
                "Sessions of which something was erased in the time shown: by retention, or the recording alone.",
                [Query(in_range("voicebus_erased_sessions_total", by="reason"), "{{reason}}")],
            ),
            Bars(
                "Erased rows",
                "Rows of the archive that were erased in the time shown.",
                [Query(in_range("voicebus_erased_rows_total", by="reason"), "{{reason}}")],
            ),
            Bars(
                "Erased bytes of recordings",
                "In the time shown.",
                [Query(in_range("voicebus_erased_recording_bytes_total", by="reason"), "{{reason}}")],
                "bytes",
            ),
            Number(
                "Overdue",
                "Sessions older than their tenant keeps them, after the last look: 0, or something fails.",
                [Query(worst("voicebus_retention_overdue_sessions"), "overdue")],
                limits=Limits(1, 100),
                width=8,
            ),
            Number(
                "Nothing was overdue",
                "How long ago a look at what is to be erased last ended with nothing overdue.",
                [Query(f"time() - max({succeeded} > 0)", "ago")],
                "s",
                Limits(7200, 86_400),
                width=8,
            ),
        ],
    )
