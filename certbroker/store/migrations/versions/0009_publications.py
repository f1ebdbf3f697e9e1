"""What private CAs publish: CRLs, and OCSP replies signed beforehand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "revocation_lists",
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=True),
        sa.Column("next_update", sa.BigInteger(), nullable=True),
        sa.Column("act_at", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("partial", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("authority", "shard"),
    )
    op.create_table(
        "status_replies",
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=True),
        sa.Column("next_update", sa.BigInteger(), nullable=True),
        sa.Column("act_at", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("sha1", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("authority", "serial"),
    )
    op.create_index("status_replies_due", "status_replies", ["authority", "act_at"], unique=False)
    op.execute(
        "INSERT INTO status_replies (authority, serial, act_at, fence) SELECT authority, serial, 0, 0 FROM issued"
    )
    op.create_table(
        "publishing_problems",
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("authority"),
    )
    op.drop_index("issued_revoked", "issued")
    op.create_index(
        "issued_revoked",
        "issued",
        ["authority", "shard", "not_after", "revoked", "reason"],
        unique=False,
        sqlite_where=sa.text("revoked IS NOT NULL"),
    )
