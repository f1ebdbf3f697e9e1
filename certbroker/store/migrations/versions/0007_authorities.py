"""Certification authorities of the broker itself, and the ledger of what they have issued."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "authorities",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("display", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("crl_act_at", sa.BigInteger(), nullable=True),
        sa.Column("crl_fence", sa.Integer(), nullable=False),
        sa.Column("kek", sa.Integer(), sa.ForeignKey("keks.id", name="authorities_kek"), nullable=True),
        sa.Column("dek", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("authorities_named", "authorities", ["vault_id", "name"], unique=False)
    op.create_index("authorities_sha256", "authorities", ["sha256"], unique=True)
    op.create_index(
        "authorities_parent", "authorities", ["parent"], unique=False, sqlite_where=sa.text("parent IS NOT NULL")
    )
    op.create_index(
        "authorities_due",
        "authorities",
        ["crl_act_at"],
        unique=False,
        sqlite_where=sa.text("crl_act_at IS NOT NULL"),
    )
    op.create_index("authorities_kek", "authorities", ["kek"], unique=False, sqlite_where=sa.text("kek IS NOT NULL"))
    op.create_table(
        "issued",
        sa.Column("authority", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("authority", "serial"),
        sqlite_with_rowid=False,
    )
    op.create_index("issued_expiring", "issued", ["not_after"], unique=False)
    op.create_index(
        "issued_revoked", "issued", ["authority", "shard"], unique=False, sqlite_where=sa.text("revoked IS NOT NULL")
    )
