"""Rotation policies of keys, and when each key is looked at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "rotations",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=True),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("told", sa.String(), nullable=True),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("vault_id", "name"),
    )
    op.create_index("rotations_due", "rotations", ["act_at"], sqlite_where=sa.text("act_at IS NOT NULL"))
