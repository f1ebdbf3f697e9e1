"""Run by Alembic: connects and applies the revisions."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from certbroker.store import tables  # noqa: F401 - fills the metadata

url = URL.create("sqlite", database=str(context.config.attributes["path"]))
engine = create_engine(url, poolclass=NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
