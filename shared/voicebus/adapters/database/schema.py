"""The tables of the transcript database, and the revision that they are at.

`events` is the record: every recorded event as its owner wrote it. `sessions` and `items` are derived from it, for
reading. Times are ms since 1970 (UTC); positions (`start_ms`, `end_ms`) are ms since the session started.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from voicebus.contracts.journal import MAX_TENANT_CHARS

REVISION: Final = "0002"
"""The newest migration; a database at another one is refused."""

SESSION_CHARS: Final = 200

metadata: Final = MetaData()

sessions: Final = Table(
    "sessions",
    metadata,
    Column("session", String(SESSION_CHARS), primary_key=True),
    Column("agent", Text),
    # Null where no event has named one: then it is the tenant of one's own machine.
    Column("tenant", String(MAX_TENANT_CHARS)),
    Column("status", String(16), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("end_reason", Text),
    Column("last_seq", Integer, nullable=False),
    Index("ix_sessions_tenant", "tenant", "started_at", "session"),
    Index("ix_sessions_tenant_agent", "tenant", "agent", "started_at"),
)

# Deleting a session deletes what it said: one statement is enough to forget a caller.
_SESSION: Final = "sessions.session"

events: Final = Table(
    "events",
    metadata,
    Column("session", String(SESSION_CHARS), ForeignKey(_SESSION, ondelete="CASCADE"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("type", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", JSON, nullable=False),
    PrimaryKeyConstraint("session", "seq"),
)

items: Final = Table(
    "items",
    metadata,
    Column("session", String(SESSION_CHARS), ForeignKey(_SESSION, ondelete="CASCADE"), nullable=False),
    # What makes two events speak of one line: the call's id, the item's id, else the event's seq.
    Column("key", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    # The last event that shaped this line; a merge keeps what the later event said.
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
    PrimaryKeyConstraint("session", "key"),
)
