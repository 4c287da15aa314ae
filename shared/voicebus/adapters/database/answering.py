"""Connections to PostgreSQL that give up a server which does not answer.

A server that stands still (its processes are stopped, its disk hangs) keeps its connections open, and its kernel goes
on to confirm what is sent: neither keepalives nor `tcp_user_timeout` see anything, and the statement's own timeout is
the server's to keep.
"""

import math
import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event

ALIVE_S: Final = 2.0
"""How long a connection that was not used for a while may take to answer before it is used again."""

BESIDE_S: Final = 2.0
"""How much longer an answer may take than the server has for it."""

T = TypeVar("T")


class AnsweringConnection(psycopg.Connection[Any]):
    """Closes itself, and fails as a lost one does, where nothing comes from the server for `silent_s` (seconds)."""

    silent_s: float = math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """Have one exchange with the server.

        Raises:
            OperationalError: the server did not answer in time, or is lost.
        """
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        due = time.monotonic() + self.silent_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    due = now + self.silent_s
                elif now >= due:
                    self.close()
                    raise psycopg.OperationalError(f"the server has not answered for {self.silent_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result


def keep_answering(engine: Engine, statement_s: float) -> None:
    """Have the connections of an engine for PostgreSQL bounded: statements by what the server has for them."""

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, arguments: Any) -> AnsweringConnection:
        connection = AnsweringConnection.connect(*args, **arguments)
        connection.silent_s = statement_s + BESIDE_S
        return connection

    # What is asked between the two is whether it lives (`pool_pre_ping`).
    @event.listens_for(engine, "checkin")  # codespell:ignore checkin
    def back(connection: AnsweringConnection | None, _record: Any) -> None:
        if connection is not None:
            connection.silent_s = ALIVE_S

    @event.listens_for(engine, "checkout")
    def taken(connection: AnsweringConnection, _record: Any, _fairy: Any) -> None:
        connection.silent_s = statement_s + BESIDE_S


def limit_statements(connection: Connection, seconds: float) -> None:
    """Give each further statement of this transaction, on PostgreSQL, so much time instead."""
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")
    driver: Any = connection.connection.driver_connection
    driver.silent_s = seconds + BESIDE_S
