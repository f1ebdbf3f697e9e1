"""How issuers have done, and operations that wait for somebody or were given up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("issuers", sa.Column("health", sa.Text(), nullable=True))
    op.create_index(
        "operations_open",
        "operations",
        ["created"],
        unique=False,
        sqlite_where=sa.text("pending = 1 AND act_at IS NULL AND substr(state, 1, 9) != 'Completed'"),
    )
