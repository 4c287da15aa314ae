"""Addresses of databases, as managed ones and operators' secrets hand them out."""

import pytest
from sqlalchemy import text

from support.servers import free_port
from voicebus.adapters.database.connection import open_engine
from voicebus.errors import SettingsError


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_an_address_without_a_driver_opens_the_same_database(postgres_database: str, scheme: str) -> None:
    _, _, rest = postgres_database.partition("://")
    engine, where = open_engine(f"{scheme}://{rest}?sslmode=prefer&channel_binding=prefer&application_name=calls%40x")
    try:
        with engine.connect() as connection:
            asked = text("SELECT current_database(), current_setting('application_name')")
            database, application = connection.execute(asked).one()
    finally:
        engine.dispose()
    assert (database, application) == (rest.rpartition("/")[2], "calls@x")
    assert where == rest.rpartition("@")[2]


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ("-c%20search_path%3Delsewhere", "30s"),
        ("-c+search_path=elsewhere", "30s"),
        ("-c%20search_path%3Delsewhere%20-c%20statement_timeout%3D7s", "7s"),
    ],
)
def test_options_of_ones_own_leave_the_limit_of_a_statement_where_they_set_none(
    postgres_database: str, options: str, limit: str
) -> None:
    _, _, rest = postgres_database.partition("://")
    engine, _ = open_engine(f"postgresql://{rest}?options={options}")
    try:
        with engine.connect() as connection:
            asked = text("SELECT current_setting('search_path'), current_setting('statement_timeout')")
            assert tuple(connection.execute(asked).one()) == ("elsewhere", limit)
    finally:
        engine.dispose()


@pytest.mark.parametrize("query", ["", "?", "?target_session_attrs=read-write"])
def test_of_several_hosts_one_that_answers_is_taken(postgres_database: str, query: str) -> None:
    _, _, rest = postgres_database.partition("://")
    user, _, place = rest.rpartition("@")
    hosts, _, name = place.partition("/")
    closed = f"127.0.0.1:{free_port()}"
    engine, where = open_engine(f"postgres://{user}@{closed},{hosts}/{name}{query}")
    try:
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_database()")).scalar() == name
    finally:
        engine.dispose()
    assert where == f"{closed},{hosts}/{name}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_an_option_that_libpq_does_not_know_is_named(scheme: str) -> None:
    with pytest.raises(SettingsError, match=r"^VOICEBUS_DATABASE_URL: its option 'pgbouncer' is not one of libpq's"):
        open_engine(f"{scheme}://user:s3cret@db/calls?sslmode=require&pgbouncer=true")


@pytest.mark.parametrize("host", ["a,b:x", "a:1,b:x"])
def test_a_port_that_is_none_is_refused_without_the_password(host: str) -> None:
    with pytest.raises(SettingsError, match="VOICEBUS_DATABASE_URL: it is not a database address") as refused:
        open_engine(f"postgres://user:s3cret@{host}/calls")
    assert "s3cret" not in str(refused.value)
