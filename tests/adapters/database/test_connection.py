"""How long a search may take, and what it leaves behind."""

import pytest
from sqlalchemy import text

from voicebus.adapters.database.connection import mapped_errors, open_engine, searching
from voicebus.errors import StoreError

ENDLESS = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT (x + 1) % 1000 FROM n) SELECT max(x) FROM n")


def test_a_search_without_an_end_is_given_up_and_the_connection_goes_on(database: str) -> None:
    engine, where = open_engine(database)
    try:
        with (
            pytest.raises(StoreError, match=r"longer than 0\.05 s; narrow it down"),
            mapped_errors(where),
            searching(engine, 0.05) as connection,
        ):
            connection.execute(ENDLESS)
        for _ in range(2):  # the same pooled connection, and no limit left on it
            with engine.connect() as connection:
                assert connection.execute(text("SELECT count(*) FROM sessions")).scalar() == 0
    finally:
        engine.dispose()
