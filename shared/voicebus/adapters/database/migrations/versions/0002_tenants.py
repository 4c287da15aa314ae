"""Whose a session is. None is the tenant of one's own machine, and so is all that was recorded before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("tenant", sa.String(128)))
    op.create_index("ix_sessions_tenant", "sessions", ["tenant", "started_at", "session"])
    op.create_index("ix_sessions_tenant_agent", "sessions", ["tenant", "agent", "started_at"])
    op.drop_index("ix_sessions_agent", "sessions")
    op.drop_index("ix_sessions_started_at", "sessions")


def downgrade() -> None:
    op.create_index("ix_sessions_started_at", "sessions", ["started_at", "session"])
    op.create_index("ix_sessions_agent", "sessions", ["agent", "started_at"])
    op.drop_index("ix_sessions_tenant_agent", "sessions")
    op.drop_index("ix_sessions_tenant", "sessions")
    op.drop_column("sessions", "tenant")
