"""Which releases may use this database: those whose newest migration is `since` or later.

So a release that is replaced, or that is rolled back to, goes on with a database that a newer one has migrated. A
migration that only adds leaves the row alone; one after which an older release would fail, or write what is wrong,
sets `since` to its own number.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table("compatibility", sa.Column("since", sa.String(16), primary_key=True))
    # Releases before this one do not read it, and ask for their own migration exactly.
    op.bulk_insert(table, [{"since": revision}])


def downgrade() -> None:
    op.drop_table("compatibility")
