"""What was erased, and when: the proof that it was, and why nothing of it is written again when it arrives late.

It has no part of a conversation, and no reference to `sessions`: it stays when a session has gone.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("session", sa.String(200), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.String(128)),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("recording_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("session", "reason"),
    )
    op.create_index("ix_erasures_at", "erasures", ["at"])


def downgrade() -> None:
    op.drop_table("erasures")
