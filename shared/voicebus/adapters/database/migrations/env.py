"""Alembic's entry point: runs the migrations on the connection that `voicebus.adapters.database.migrate` hands over."""

from alembic import context
from sqlalchemy import Connection

from voicebus.adapters.database.schema import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
