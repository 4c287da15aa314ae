"""Tools and queues: what tools do, and whether their queues are worked off."""

from dashboards.panels import Bars, Dashboard, Limits, Lines, Query, Row, Variable
from dashboards.queries import highest, in_range, mean, of, quantile, rate

_TOOL = 'tool=~"$tool"'
# A queue's stream is PREFIX:tools:{QUEUE}.
_STREAM = r'stream=~".*:tools:[{]($queue)[}]"'


def dashboard() -> Dashboard:
    return Dashboard(
        "voicebus-tools",
        "Tools and queues",
        "Calls of tools by how they ended and how long they took, and the queues that workers take them from.",
        [_tools(), _refusals(), _queues(), _messages()],
        [
            Variable("tool", "Tool", f"label_values({of('voicebus_tool_outcomes_total')}, tool)"),
            Variable("queue", "Queue", f"label_values({of('voicebus_dead_letters')}, queue)"),
        ],
    )


def _tools() -> Row:
    return Row(
        "Tools",
        [
            Lines(
                "Calls",
                "Calls that ended, a second.",
                [Query(rate("voicebus_tool_outcomes_total", _TOOL, by="tool"), "{{tool}}")],
                "ops",
                stacked=True,
            ),
            Lines(
                "Failures",
                "The share of a tool's calls that ended with an error, late, expired or without a known outcome.",
                [Query(of("tool:voicebus_tool_failures:ratio_5m", _TOOL), "{{tool}}")],
                "percentunit",
                Limits(0.05, 0.1),
                ("VoicebusToolFailing",),
            ),
            Lines(
                "Run time (p95)",
                "How long the function runs in its worker.",
                [Query(of("tool:voicebus_tool_duration_seconds:p95_5m", _TOOL), "{{tool}}")],
                "s",
            ),
            Bars(
                "Ends",
                "In the time shown. unknown: the worker of a call that must not run twice was lost after it had begun.",
                [Query(in_range("voicebus_tool_outcomes_total", _TOOL, by="outcome"), "{{outcome}}")],
                alerts=("VoicebusToolOutcomeUnknown",),
            ),
            Lines(
                "Run time (mean)",
                "Beside p95, as that is the bound of a bucket where calls are few.",
                [Query(mean("voicebus_tool_duration_seconds", _TOOL, by="tool"), "{{tool}}")],
                "s",
            ),
            Lines(
                "Workers' loops blocked",
                "The share of time in which a tool kept all other calls of its worker waiting. The log names the line.",
                [Query(rate("voicebus_tool_loop_blocked_seconds_total", _TOOL, by="tool"), "{{tool}}")],
                "percentunit",
                Limits(0.01, 0.1),
                ("VoicebusToolBlocksLoop",),
            ),
        ],
    )


def _refusals() -> Row:
    return Row(
        "Given up, or answered without a worker",
        [
            Lines(
                "Refused calls",
                "Calls that a gateway answered itself, as the tool rests, too many wait, or no worker is there.",
                [Query(rate("voicebus_tool_calls_refused_total", _TOOL, by="tool, reason"), "{{tool}}: {{reason}}")],
                "ops",
                alerts=("VoicebusToolCallsRefused",),
            ),
            Lines(
                "Resting tools",
                "1 while a tool is not called, as it failed too often in a row: voicebus tools reset NAME ends that.",
                [Query(highest("voicebus_tool_circuit_open", _TOOL, by="tool"), "{{tool}}")],
                alerts=("VoicebusToolCircuitOpen",),
            ),
            Lines(
                "Threads that hang",
                "Threads of a worker in functions that run on after their call was given up.",
                [Query(highest("voicebus_threads_stuck", by="service"), "{{service}}")],
                limits=Limits(1, 5),
            ),
        ],
    )


def _queues() -> Row:
    return Row(
        "Queues",
        [
            Lines(
                "Backlog",
                "Calls that no worker has been given yet.",
                [Query(of("stream:voicebus_stream_lag:max", _STREAM), "{{stream}}")],
                limits=Limits(5, 20),
                alerts=("VoicebusStreamBacklog", "VoicebusStreamLagUnknown"),
            ),
            Lines(
                "In hand",
                "Calls that workers have and have not finished.",
                [Query(highest("voicebus_stream_pending", _STREAM, by="stream"), "{{stream}}")],
            ),
            Lines(
                "Oldest in hand",
                "How long ago the oldest of those was sent.",
                [Query(of("stream:voicebus_stream_oldest_pending_seconds:max", _STREAM), "{{stream}}")],
                "s",
                Limits(60, 300),
                ("VoicebusToolCallsStuck",),
            ),
            Lines(
                "Workers",
                "Consumers that a queue's group lists.",
                [Query(highest("voicebus_stream_consumers", _STREAM, by="stream"), "{{stream}}")],
                limits=Limits(2, 1, low=True),
            ),
            Lines(
                "Wait for a worker",
                "From sending a call to the start of its work, over all queues.",
                [
                    Query(quantile(share, "voicebus_message_queue_seconds", 'service="tool-worker"'), name)
                    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ],
                "s",
                Limits(0.1, 0.5),
            ),
            Lines(
                "Dead letters",
                "Calls that were given up and that nobody has replayed or dropped: voicebus dead-letters list.",
                [Query(highest("voicebus_dead_letters", 'queue=~"$queue"', by="queue"), "{{queue}}")],
                limits=Limits(1, 100),
                alerts=("VoicebusDeadLetters",),
            ),
        ],
    )


def _messages() -> Row:
    return Row(
        "Deliveries of all services",
        [
            Lines(
                "Taken over",
                "Entries that a service took over from consumers that died or were too slow, a second.",
                [Query(rate("voicebus_messages_claimed_total", by="service, cause"), "{{service}}: {{cause}}")],
                "ops",
            ),
            Lines(
                "Delivered again",
                "Entries that were delivered more than once, a second.",
                [Query(rate("voicebus_messages_redelivered_total", by="service"), "{{service}}")],
                "ops",
            ),
            Bars(
                "Given up",
                "Entries that went to the dead letters in the time shown.",
                [
                    Query(
                        in_range("voicebus_messages_deadlettered_total", by="service, reason"),
                        "{{service}}: {{reason}}",
                    )
                ],
                limits=Limits(1, 100),
                alerts=("VoicebusDeadLetters",),
            ),
            Lines(
                "Backlog unknown",
                "1 where Redis does not know a stream's backlog, as somebody deleted from it; scaling on it does "
                "not work.",
                [Query(highest("voicebus_stream_lag_unknown", by="stream, group"), "{{stream}} {{group}}")],
                alerts=("VoicebusStreamLagUnknown",),
                width=12,
            ),
            Lines(
                "Length of streams",
                "Entries in each stream, worked off or not: those of events wait until every group has them.",
                [Query(highest("voicebus_stream_length", by="stream"), "{{stream}}")],
                width=12,
            ),
        ],
    )
