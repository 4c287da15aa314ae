"""What a session ran on, went through and used; its turns; and months, by which PostgreSQL partitions the large tables.

Neither database can turn a table into a partitioned one, or widen a primary key, in place: `events` and `items` are
made anew and filled from the old ones.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from voicebus.adapters.database.partitions import create_partitions
from voicebus.adapters.database.schema import month_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

USAGE = ("input_tokens", "input_cached_tokens", "input_audio_tokens", "output_tokens", "output_audio_tokens")
ITEMS = (
    "session, key, seq, revised_seq, at, type, role, agent, item_id, text, heard_text, truncated, start_ms, end_ms,"
    " tool, call_id, arguments, output, outcome"
)
EVENTS = "session, seq, type, at, data"


def upgrade() -> None:
    connection = op.get_bind()
    _widen_sessions(connection)
    for name in ("events", "items"):
        _move_away(connection, name)
    _create(connection, "events", *_event_columns(), key="seq")
    _create(
        connection,
        "items",
        *_item_columns(),
        sa.Column("worker", sa.Text),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("details", sa.JSON),
        key="key",
    )
    _create(
        connection,
        "turns",
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("first_audio_ms", sa.Float),
        sa.Column("first_text_ms", sa.Float),
        sa.Column("total_ms", sa.Float),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in USAGE),
        sa.Column("cost", sa.Float),
        key="seq",
    )
    op.create_table(
        "gaps",
        sa.Column("session", sa.String(200), sa.ForeignKey("sessions.session", ondelete="CASCADE"), primary_key=True),
    )
    months = list(connection.execute(sa.text("SELECT DISTINCT month FROM sessions")).scalars())
    for month in (*months, _this_month()):
        create_partitions(connection, month)
    for name, columns in (("events", EVENTS), ("items", ITEMS)):
        old = ", ".join(f"old.{column.strip()}" for column in columns.split(","))
        connection.execute(
            sa.text(
                f"INSERT INTO {name} (month, {columns})"  # noqa: S608 - names from above
                f" SELECT sessions.month, {old} FROM {name}_old AS old JOIN sessions ON sessions.session = old.session"
            )
        )
        op.drop_table(f"{name}_old")


def downgrade() -> None:
    connection = op.get_bind()
    op.drop_table("gaps")
    op.drop_table("turns")
    op.execute("DELETE FROM events WHERE type = 'transcript_gap'")
    for name in ("events", "items"):
        _move_away(connection, name)
    for name, columns, key, names in (
        ("events", _event_columns(), "seq", EVENTS),
        ("items", _item_columns(), "key", ITEMS),
    ):
        op.create_table(
            name,
            sa.Column("session", sa.String(200), nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("session", key),
            sa.ForeignKeyConstraint(["session"], ["sessions.session"], ondelete="CASCADE"),
        )
        connection.execute(sa.text(f"INSERT INTO {name} ({names}) SELECT {names} FROM {name}_old"))  # noqa: S608
        op.drop_table(f"{name}_old")
    op.drop_index("ix_sessions_active", "sessions")
    op.drop_index("ix_sessions_month", "sessions")
    for column in ("cost", *USAGE, "turns", "lost", "stored", "face", "model", "agents", "month"):
        op.drop_column("sessions", column)


def _widen_sessions(connection: sa.Connection) -> None:
    # Never by making `sessions` anew: on SQLite that would delete what refers to it.
    for column in (
        sa.Column("month", sa.Integer, nullable=False, server_default="0"),
        sa.Column("agents", sa.JSON),
        sa.Column("model", sa.Text),
        sa.Column("face", sa.String(16)),
        sa.Column("stored", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lost", sa.Integer, nullable=False, server_default="0"),
        sa.Column("turns", sa.Integer, nullable=False, server_default="0"),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in USAGE),
        sa.Column("cost", sa.Float),
    ):
        op.add_column("sessions", column)
    sessions = sa.table("sessions", sa.column("session"), sa.column("month"), sa.column("started_at"))
    for row in connection.execute(sa.select(sessions.c.session, sessions.c.started_at)).all():
        month = month_of(row.started_at)
        connection.execute(sa.update(sessions).where(sessions.c.session == row.session).values(month=month))
    connection.execute(
        sa.text("UPDATE sessions SET stored = (SELECT count(*) FROM events WHERE events.session = sessions.session)")
    )
    connection.execute(sa.text("UPDATE sessions SET lost = last_seq - stored"))
    # `agents` of what was recorded before is unknown but for the first; its tokens were not counted.
    connection.execute(
        sa.text(
            "UPDATE sessions SET agents = json_build_array(agent) WHERE agent IS NOT NULL"
            if connection.dialect.name == "postgresql"
            else "UPDATE sessions SET agents = json_array(agent) WHERE agent IS NOT NULL"
        )
    )
    if connection.dialect.name == "postgresql":  # SQLite cannot take the default away again
        op.alter_column("sessions", "month", server_default=None)
    op.create_index("ix_sessions_month", "sessions", ["session", "month"], unique=True)
    active = sa.text("status = 'active'")
    op.create_index("ix_sessions_active", "sessions", ["started_at"], postgresql_where=active, sqlite_where=active)


def _move_away(connection: sa.Connection, name: str) -> None:
    op.rename_table(name, f"{name}_old")
    if connection.dialect.name == "postgresql":  # its key has a name of its own, which the new table's wants
        connection.execute(sa.text(f"ALTER TABLE {name}_old RENAME CONSTRAINT {name}_pkey TO {name}_old_pkey"))


def _create(connection: sa.Connection, name: str, *columns: sa.Column[Any], key: str) -> None:
    op.create_table(
        name,
        sa.Column("session", sa.String(200), nullable=False),
        sa.Column("month", sa.Integer, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("session", key, "month"),
        sa.ForeignKeyConstraint(["session", "month"], ["sessions.session", "sessions.month"], ondelete="CASCADE"),
        postgresql_partition_by="LIST (month)",
    )
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"CREATE TABLE {name}_default PARTITION OF {name} DEFAULT"))


def _this_month() -> int:
    return month_of(round(datetime.now(UTC).timestamp() * 1000))


def _event_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    ]


def _item_columns() -> list[sa.Column[Any]]:
    texts = ("agent", "item_id", "text", "heard_text")
    return [
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("revised_seq", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("role", sa.String(16)),
        *(sa.Column(name, sa.Text) for name in texts),
        sa.Column("truncated", sa.Boolean),
        sa.Column("start_ms", sa.BigInteger),
        sa.Column("end_ms", sa.BigInteger),
        *(sa.Column(name, sa.Text) for name in ("tool", "call_id", "arguments", "output", "outcome")),
    ]
