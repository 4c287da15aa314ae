"""Which owner wrote an event, and the highest epoch of a session's: what of two owners counts (`epochs.py`).

What was recorded before has epoch 0, unknown. The columns are added without rewriting a table. Sessions come first, as
with all who read and write: whoever is in the midst of that would have the other table else, and wait for this one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("sessions", "events"):
        op.add_column(table, sa.Column("epoch", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    for table in ("sessions", "events"):
        op.drop_column(table, "epoch")
