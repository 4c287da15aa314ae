"""How long a search may take, and what it leaves behind; servers that stand still."""

import pytest
from sqlalchemy import text

from support.servers import PostgresServer
from voicebus.adapters.database import answering
from voicebus.adapters.database.connection import mapped_errors, open_engine, searching
from voicebus.errors import StoreError

ENDLESS = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT (x + 1) % 1000 FROM n) SELECT max(x) FROM n")


@pytest.mark.parametrize("asked", [False, True], ids=["before it is asked", "while it is asked"])
def test_a_server_that_stands_still_is_given_up_and_the_next_connection_is_another(asked: bool) -> None:
    with PostgresServer() as server:
        engine, where = open_engine(server.url)

        def ask_of_the_stopped() -> None:
            if not asked:
                server.pause()
            with mapped_errors(where), searching(engine, 0.5) as connection:
                server.pause()
                connection.execute(text("SELECT 1"))

        try:
            with engine.connect() as connection:
                first = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            with pytest.raises(StoreError, match=r"has not answered for 2\.5 s" if asked else "timeout"):
                ask_of_the_stopped()
            server.resume()
            with engine.connect() as connection:
                assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != first
        finally:
            server.resume()
            engine.dispose()


def test_a_statement_may_take_as_long_as_the_server_has_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "BESIDE_S", 0.0)
    longer = text(f"SELECT pg_backend_pid() FROM pg_sleep({answering.ALIVE_S + 0.3})")
    with PostgresServer() as server:
        engine, _ = open_engine(server.url)
        try:
            for _ in range(2):  # the second on a connection that was asked whether it lives
                with engine.connect() as connection:
                    slept = connection.execute(longer).scalar()
            with engine.connect() as connection:
                assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == slept
        finally:
            engine.dispose()


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
