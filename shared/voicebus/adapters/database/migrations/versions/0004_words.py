"""The words of lines, for search.

`items.words` (PostgreSQL) and the table `item_words` (SQLite, FTS5) follow the lines by themselves, so they are no part
of `schema.py`. Of a very long line the first 200,000 characters can be found.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BODY = "coalesce({0}text, '') || ' ' || coalesce({0}arguments, '') || ' ' || coalesce({0}output, '')"


def upgrade() -> None:
    op.create_index("ix_sessions_started", "sessions", ["started_at", "session"])
    if op.get_bind().dialect.name == "postgresql":
        # No stemming and no stop words: calls are in any language.
        op.execute(
            "ALTER TABLE items ADD COLUMN words tsvector GENERATED ALWAYS AS"
            f" (to_tsvector('simple', left({_BODY.format('')}, 200000))) STORED"
        )
        op.execute("CREATE INDEX item_words ON items USING gin (words)")
        return
    op.execute('CREATE VIRTUAL TABLE item_words USING fts5 (body, tokenize = "unicode61 remove_diacritics 0")')
    op.execute(f"INSERT INTO item_words (rowid, body) SELECT rowid, {_BODY.format('')} FROM items")  # noqa: S608
    new = _BODY.format("new.")
    op.execute(
        f"CREATE TRIGGER item_words_insert AFTER INSERT ON items BEGIN"  # noqa: S608 - names from above
        f" INSERT INTO item_words (rowid, body) VALUES (new.rowid, {new}); END"
    )
    op.execute(
        f"CREATE TRIGGER item_words_update AFTER UPDATE ON items BEGIN"  # noqa: S608 - names from above
        f" UPDATE item_words SET body = {new} WHERE rowid = new.rowid; END"
    )
    op.execute(
        "CREATE TRIGGER item_words_delete AFTER DELETE ON items BEGIN"
        " DELETE FROM item_words WHERE rowid = old.rowid; END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX item_words")
        op.execute("ALTER TABLE items DROP COLUMN words")
    else:
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER item_words_{event}")
        op.execute("DROP TABLE item_words")
    op.drop_index("ix_sessions_started", "sessions")
