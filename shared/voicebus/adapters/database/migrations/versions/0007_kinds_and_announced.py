"""Lines by their type and role, for search; and how large recordings are that are about to be erased.

Making the index, writers of lines wait on PostgreSQL (about a second for a million lines); what they write meanwhile
stays in Redis.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_items_kind", "items", ["type", "role", "session"])
    op.create_table(
        "announced",
        sa.Column("session", sa.String(200), primary_key=True),
        sa.Column("recording_bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("announced")
    op.drop_index("ix_items_kind", "items")
