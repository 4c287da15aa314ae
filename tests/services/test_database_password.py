"""A database's password apart from its address, as charts and operators keep it: in libpq's own variable."""

from pathlib import Path

import psycopg
import pytest

from support.commands import voicebus as run_command
from support.servers import PostgresServer

PASSWORD = "p/w@d"


@pytest.mark.timeout(120)
async def test_an_address_without_a_password_takes_the_one_of_pgpassword(monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE calls LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE calls OWNER calls")
            row = connection.execute("SHOW hba_file").fetchone()
            assert row is not None
            rules = Path(row[0])
            rules.write_text("host calls calls 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
            connection.execute("SELECT pg_reload_conf()")
        url = f"postgres://calls@127.0.0.1:{server.port}/calls?sslmode=prefer"
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        done = await run_command("migrate", database_url=url)
        assert (done.status, done.out.strip()) == (0, "database: up to date")
        monkeypatch.setenv("PGPASSWORD", "hunter2")
        refused = await run_command("migrate", database_url=url)
        assert refused.status == 1
        assert "password authentication failed" in refused.complaint
        assert "hunter2" not in refused.err
