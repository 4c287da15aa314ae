"""Every metric of every service. Names, labels and buckets are fixed by the operators' page (docs/metrics.md).

Label values come from enumerations and registries, never from ids of sessions, calls or users.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_TURN: Final = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_HOP: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_WORK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LAG: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0)
_CALL: Final = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

# --- gateway ---------------------------------------------------------------------------------------
SESSIONS_ACTIVE = Gauge("voicebus_sessions_active", "Conversations now held by this gateway.")
SESSION_SLOTS = Gauge("voicebus_session_slots", "Conversations this gateway may hold at once.")
SESSIONS_STARTED = Counter("voicebus_sessions_started_total", "Conversations begun.")
SESSIONS_ENDED = Counter("voicebus_sessions_ended_total", "Conversations ended.", ["reason"])
SESSION_DURATION = Histogram("voicebus_session_duration_seconds", "Length of ended conversations.", buckets=_CALL)
ADMISSION_REJECTED = Counter("voicebus_admission_rejected_total", "Conversations not admitted.", ["reason"])
CREDENTIALS_REFUSED = Counter("voicebus_credentials_refused_total", "Credentials that opened nothing.", ["reason"])
SESSION_MIGRATIONS = Counter(
    "voicebus_session_migrations_total", "Conversations that were to go on at this gateway.", ["cause", "outcome"]
)
SESSION_TAKEOVER = Histogram(
    "voicebus_session_takeover_seconds", "From taking a dead gateway's conversation until it is live.", buckets=_TURN
)
LIMITS_REACHED = Counter("voicebus_limits_reached_total", "Clients and sessions that met a limit.", ["limit"])
DRAINING = Gauge("voicebus_draining", "1 while the process finishes its work and takes no more.")
MODEL_CONNECT = Histogram("voicebus_model_connect_seconds", "From dialling to the model's first event.", buckets=_TURN)
MODEL_RECONNECTS = Counter("voicebus_model_reconnects_total", "Attempts to replace the model's socket.", ["cause"])
MODEL_CIRCUIT_OPEN = Gauge(
    "voicebus_model_circuit_open", "1 while an address of a model is not dialled, as it failed too often.", ["address"]
)
MODEL_ERRORS = Counter("voicebus_model_errors_total", "Error events and failures of the model link.", ["code"])
RESPONSE_LATENCY = Histogram(
    "voicebus_response_latency_seconds", "From the end of the user's turn to the first audio sent.", buckets=_TURN
)
FIRST_ANSWER = Histogram(
    "voicebus_session_first_answer_seconds", "From a conversation's begin to its first answer's.", buckets=_TURN
)
DEAD_AIR = Counter("voicebus_dead_air_seconds_total", "Time in which an answer was overdue that did not begin.")
BARGE_IN = Counter("voicebus_barge_in_total", "Answers that the user interrupted.")
MODEL_TOKENS = Counter(
    "voicebus_model_tokens_total", "Tokens by the model's own count.", ["direction", "modality", "cached"]
)
EVENT_LOOP_LAG = Gauge("voicebus_event_loop_lag_seconds", "How late the event loop ran its last probe.")

RECORDINGS_ACTIVE = Gauge("voicebus_recordings_active", "Conversations that are recorded now.")
RECORDED_SECONDS = Counter("voicebus_recorded_seconds_total", "Length of what was recorded of conversations.")
RECORDING_FAILURES = Counter(
    "voicebus_recording_failures_total", "Recordings that were given up, or stayed in parts.", ["step"]
)

# --- bus, every service ----------------------------------------------------------------------------
MESSAGE_QUEUE = Histogram(
    "voicebus_message_queue_seconds", "From XADD to the start of the work.", ["service"], buckets=_HOP
)
MESSAGES_CLAIMED = Counter("voicebus_messages_claimed_total", "Entries taken over.", ["service", "cause"])
MESSAGES_REDELIVERED = Counter("voicebus_messages_redelivered_total", "Entries delivered again.", ["service"])
MESSAGES_DEADLETTERED = Counter("voicebus_messages_deadlettered_total", "Entries given up.", ["service", "reason"])
STREAM_LAG = Gauge("voicebus_stream_lag", "Entries that a group has not been given yet.", ["stream", "group"])
STREAM_LAG_UNKNOWN = Gauge(
    "voicebus_stream_lag_unknown", "1 where Redis does not know the lag; it is absent then.", ["stream", "group"]
)
STREAM_PENDING = Gauge("voicebus_stream_pending", "Entries given and not acknowledged.", ["stream", "group"])
STREAM_OLDEST_PENDING = Gauge(
    "voicebus_stream_oldest_pending_seconds", "Age of the oldest entry that is not acknowledged.", ["stream", "group"]
)
STREAM_LENGTH = Gauge("voicebus_stream_length", "Entries in a stream.", ["stream"])
DEAD_LETTERS = Gauge("voicebus_dead_letters", "Dead letters that nobody has replayed or dropped.", ["queue"])
STREAM_CONSUMERS = Gauge("voicebus_stream_consumers", "Consumers that a group lists.", ["stream", "group"])
REDIS_FAILOVERS = Counter("voicebus_redis_failovers_total", "Times that another server became the master.", ["service"])
REDIS_DISRUPTIONS = Counter("voicebus_redis_disruptions_total", "Losses of the connection to Redis.", ["service"])

# --- tools and guardrails: how long by the worker that ran them, what came of it by the gateway that accepted it ------
# A silent worker's time-out only the gateway knows, and one home for each keeps sums over services right.
TOOL_DURATION = Histogram("voicebus_tool_duration_seconds", "Run time of function tools.", ["tool"], buckets=_WORK)
TOOL_BLOCKED = Counter(
    "voicebus_tool_loop_blocked_seconds_total",
    "Time in which a tool kept its worker's event loop from turning.",
    ["tool"],
)
THREADS_STUCK = Gauge(
    "voicebus_threads_stuck", "Threads in functions that run on after their call is over.", ["service"]
)
TOOL_REFUSED = Counter("voicebus_tool_calls_refused_total", "Calls answered by the gateway itself.", ["tool", "reason"])
TOOL_CIRCUIT_OPEN = Gauge("voicebus_tool_circuit_open", "1 while a tool rests, as it failed too often.", ["tool"])
TOOL_OUTCOMES = Counter("voicebus_tool_outcomes_total", "Ends of tool calls.", ["tool", "outcome"])
GUARDRAIL_LATENCY = Histogram("voicebus_guardrail_latency_seconds", "Run time of guardrails.", ["rule"], buckets=_WORK)
GUARDRAIL_TRIPS = Counter("voicebus_guardrail_trips_total", "Guardrails that tripped.", ["rule"])
GUARDRAIL_REACTION = Histogram(
    "voicebus_guardrail_reaction_seconds",
    "From the text with which a check fell due until the answer was stopped for it.",
    buckets=_HOP,
)
GUARDRAIL_UNJUDGED = Counter(
    "voicebus_guardrail_unjudged_total",
    "Answers and turns that a guardrail could not judge: `open` let them pass, `closed` stopped them.",
    ["rule", "cause", "policy"],
)
GUARDRAIL_SUPERSEDED = Counter(
    "voicebus_guardrail_superseded_total", "Checks that waited until a newer one of the same response came."
)
GUARDRAIL_CIRCUIT_OPEN = Gauge(
    "voicebus_guardrail_circuit_open", "1 while no guardrail worker answers and checks are decided by policy at once."
)
GUARDRAIL_RESTS = Gauge(
    "voicebus_guardrail_rests", "1 while a guardrail is not asked, as it ran out of time again and again.", ["rule"]
)
TRANSCRIPT_LAG = Histogram(
    "voicebus_hold_transcript_lag_seconds", "How far the transcript of held speech came behind it.", buckets=_LAG
)
HOLD_WINDOW_BROKEN = Counter(
    "voicebus_hold_window_broken_total",
    "Held parts whose transcript came the window or more behind its audio.",
)

# --- transcript archiver ---------------------------------------------------------------------------
TRANSCRIPT_WRITE_LAG = Histogram(
    "voicebus_transcript_write_lag_seconds", "From a recorded event to its commit in the database.", buckets=_HOP
)
TRANSCRIPT_GAPS = Counter("voicebus_transcript_gaps_total", "Recorded events that never arrived.")
EVENTS_LOST = Counter(
    "voicebus_events_lost_total",
    "Events that left a stream, as too old or too many, before a group took them.",
    ["group"],
)
ERASED_SESSIONS = Counter("voicebus_erased_sessions_total", "Sessions of which something was erased.", ["reason"])
ERASED_ROWS = Counter("voicebus_erased_rows_total", "Rows of the archive that were erased.", ["reason"])
ERASED_RECORDING_BYTES = Counter(
    "voicebus_erased_recording_bytes_total", "Bytes of recordings that were erased.", ["reason"]
)
RETENTION_OVERDUE = Gauge(
    "voicebus_retention_overdue_sessions", "Sessions older than their tenant keeps them, after the last look."
)
RETENTION_LAST_SUCCESS = Gauge(
    "voicebus_retention_last_success_timestamp_seconds", "When nothing was overdue after a look (s since 1970)."
)
REDACTIONS = Counter(
    "voicebus_redactions_total", "Parts of texts that a rule of a tenant has kept out of the archive.", ["rule"]
)
REDACTION_FAILURES = Counter(
    "voicebus_redaction_failures_total",
    "Times that a rule of a tenant failed at a text, which was left out whole.",
    ["rule"],
)
