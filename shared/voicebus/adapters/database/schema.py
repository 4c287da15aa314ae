"""The tables of the transcript database, column by column, and the revision that they are at.

`events` is the record: every recorded event as its owner wrote it (after redaction, where there is any). `sessions`,
`items` and `turns` are derived from it in the same transaction, for reading. Deleting a row of `sessions` deletes all
that was kept of the session: one statement is enough to forget a caller.

Times (`at`, `started_at`, `ended_at`) are ms since 1970, UTC; positions in the call (`start_ms`, `end_ms`) are ms since
the session started. `month` is the calendar month (UTC) of the first event that arrived of a session, as the number
YYYYMM; it never changes, and all rows of a session have the same. On PostgreSQL `events`, `items` and `turns` are
partitioned by it (`partitions.py`): a query that knows the session's month names it and touches one partition.

sessions, one row per session
    session       its id
    month         see above
    tenant        whose it is; null (nothing has told yet) counts as the tenant of one's own machine, `local`
    agent         the agent it started with; null until its first event has arrived
    agents        JSON list: the agents it went through, in order; null as `agent`
    model, face   what it ran on and how its client came (`native`, `openai`, `sideband`); null as `agent`
    status        `active`, `ended`, or `interrupted` (its owner was gone, and nobody came back)
    started_at, ended_at, end_reason
    last_seq      the highest `seq` stored
    epoch         the highest epoch of its events; 0 where none is known
    stored, lost  events stored, and events given up as lost; together `last_seq`, but for a gap that is looked into
    turns         model responses that ended; their tokens and cost summed are the columns of `USAGE` and `cost`
    cost          null: prices are their provider's, and change; whoever has them reckons from the tokens. The column is
                  for whoever wants to fill it in, in a currency of their own
events, one row per recorded event
    session, seq  what makes an event the same event: stored once
    epoch         which owner wrote it: 1, 2, 3, …; 0 where that is not known
    type, data    as in the contract (`voicebus.contracts.journal`). A `transcript_gap {first, last}` that stands at its
                  own `first` is the archiver's: these never arrived. What still arrives there replaces it
gaps, one row per session with a gap that is looked into
items, one row per line of the transcript
    session, key  what makes two events speak of one line: `call:ID`, `item:ID`, else `event:SEQ`
    seq           the first event of the line, `at` its time
    revised_seq   the last event that shaped it; a merge keeps what the later event said
    type          `message`, `tool_call`, `handoff`, `guardrail`, `error`
    role          of a message: `user`, `assistant`, `system`
    agent         who spoke, called, or handed over
    item_id       the model's id of the item
    text          what was said (message), judged (guardrail), went wrong (error), `FROM -> TO` (handoff)
    heard_text    what of it reached the listener; null: all of it
    truncated     whether it was cut off
    start_ms, end_ms
    tool, call_id, arguments, output
                  of a tool call; arguments are JSON text, output is whole and as the model read it
    outcome       how a call ended (null while it runs), which guardrails tripped, an error's code
    worker        which worker ran the call
    duration_ms   how long the call took
    details       JSON object of what only some types have: message `withheld`; handoff `to_agent`; guardrail `stage`,
                  `response_id`, `info`, `withheld`; error `source`
turns, one row per model response that ended
    session, seq, at
    response_id, agent, status
    first_audio_ms, first_text_ms, total_ms
                  latencies from the end of the user's turn; null where there was no such thing
    columns of `USAGE`, and `cost` (null, as above)
erasures, one row per session that was erased, and per reason
    session, tenant, at
    reason        `request`, or `retention`: nothing of the session is written again; `recording`: its recording alone
                  was, and the transcript stays
    rows, recording_bytes
                  how much that was; what came back and was erased again is added
announced, one row per recording that is about to be erased, or was, and is not noted in `erasures` yet
    session, recording_bytes

compatibility, one row
    since         releases whose newest migration is this one or a later one may use the database
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from voicebus.contracts.journal import MAX_TENANT_CHARS

REVISION: Final = "0008"
"""The newest migration; a database at another one is refused."""

SESSION_CHARS: Final = 200

USAGE: Final = (
    "input_tokens", "input_cached_tokens", "input_audio_tokens", "output_tokens", "output_audio_tokens",
)  # fmt: skip
"""Columns of tokens; the cached and the audio ones are among the others, not beside them."""

PARTITIONED: Final = ("events", "items", "turns")

metadata: Final = MetaData()


def _usage() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False, server_default="0") for name in USAGE]


def _of_a_session(name: str, *columns: Column[Any] | PrimaryKeyConstraint | Index) -> Table:
    return Table(
        name,
        metadata,
        Column("session", String(SESSION_CHARS), nullable=False),
        Column("month", Integer, nullable=False),
        *columns,
        ForeignKeyConstraint(["session", "month"], ["sessions.session", "sessions.month"], ondelete="CASCADE"),
        postgresql_partition_by="LIST (month)",
    )


sessions: Final = Table(
    "sessions",
    metadata,
    Column("session", String(SESSION_CHARS), primary_key=True),
    Column("month", Integer, nullable=False),
    Column("tenant", String(MAX_TENANT_CHARS)),
    Column("agent", Text),
    Column("agents", JSON(none_as_null=True)),
    Column("model", Text),
    Column("face", String(16)),
    Column("status", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("end_reason", Text),
    Column("last_seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("stored", Integer, nullable=False, server_default="0"),
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("turns", Integer, nullable=False, server_default="0"),
    *_usage(),
    Column("cost", Float),
    Index("ix_sessions_month", "session", "month", unique=True),
    Index("ix_sessions_started", "started_at", "session"),
    Index("ix_sessions_tenant", "tenant", "started_at", "session"),
    Index("ix_sessions_tenant_agent", "tenant", "agent", "started_at"),
    Index(
        "ix_sessions_active",
        "started_at",
        postgresql_where=text("status = 'active'"),
        sqlite_where=text("status = 'active'"),
    ),
)

events: Final = _of_a_session(
    "events",
    Column("seq", Integer, nullable=False),
    Column("type", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("data", JSON, nullable=False),
    PrimaryKeyConstraint("session", "seq", "month"),
)

gaps: Final = Table(
    "gaps",
    metadata,
    Column("session", String(SESSION_CHARS), ForeignKey("sessions.session", ondelete="CASCADE"), primary_key=True),
)

items: Final = _of_a_session(
    "items",
    Column("key", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("revised_seq", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("type", String(16), nullable=False),
    Column("role", String(16)),
    Column("agent", Text),
    Column("item_id", Text),
    Column("text", Text),
    Column("heard_text", Text),
    Column("truncated", Boolean),
    Column("start_ms", BigInteger),
    Column("end_ms", BigInteger),
    Column("tool", Text),
    Column("call_id", Text),
    Column("arguments", Text),
    Column("output", Text),
    Column("outcome", Text),
    Column("worker", Text),
    Column("duration_ms", BigInteger),
    Column("details", JSON(none_as_null=True)),
    PrimaryKeyConstraint("session", "key", "month"),
    Index("ix_items_kind", "type", "role", "session"),
)

turns: Final = _of_a_session(
    "turns",
    Column("seq", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("response_id", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("first_audio_ms", Float),
    Column("first_text_ms", Float),
    Column("total_ms", Float),
    *_usage(),
    Column("cost", Float),
    PrimaryKeyConstraint("session", "seq", "month"),
)


erasures: Final = Table(
    "erasures",
    metadata,
    Column("session", String(SESSION_CHARS), nullable=False),
    Column("reason", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("tenant", String(MAX_TENANT_CHARS)),
    Column("rows", BigInteger, nullable=False, server_default="0"),
    Column("recording_bytes", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("session", "reason"),
    Index("ix_erasures_at", "at"),
)

announced: Final = Table(
    "announced",
    metadata,
    Column("session", String(SESSION_CHARS), primary_key=True),
    Column("recording_bytes", BigInteger, nullable=False),
)

compatibility: Final = Table("compatibility", metadata, Column("since", String(16), primary_key=True))


def month_of(at_ms: int) -> int:
    """The calendar month (UTC) of a time in ms, as YYYYMM."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.year * 100 + moment.month
