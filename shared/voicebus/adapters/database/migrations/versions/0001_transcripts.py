"""Sessions, their recorded events, and the readable lines derived from them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("session", sa.String(200), primary_key=True),
        sa.Column("agent", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("end_reason", sa.Text),
        sa.Column("last_seq", sa.Integer, nullable=False),
    )
    op.create_index("ix_sessions_started_at", "sessions", ["started_at", "session"])
    op.create_index("ix_sessions_agent", "sessions", ["agent", "started_at"])
    op.create_table(
        "events",
        sa.Column("session", sa.String(200), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("session", "seq"),
        sa.ForeignKeyConstraint(["session"], ["sessions.session"], ondelete="CASCADE"),
    )
    op.create_table(
        "items",
        sa.Column("session", sa.String(200), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("revised_seq", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("role", sa.String(16)),
        sa.Column("agent", sa.Text),
        sa.Column("item_id", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("heard_text", sa.Text),
        sa.Column("truncated", sa.Boolean),
        sa.Column("start_ms", sa.BigInteger),
        sa.Column("end_ms", sa.BigInteger),
        sa.Column("tool", sa.Text),
        sa.Column("call_id", sa.Text),
        sa.Column("arguments", sa.Text),
        sa.Column("output", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("session", "key"),
        sa.ForeignKeyConstraint(["session"], ["sessions.session"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("items")
    op.drop_table("events")
    op.drop_table("sessions")
