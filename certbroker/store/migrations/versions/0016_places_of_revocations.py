"""A certificate that lies in several places has a revocation for each of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # What is before the rows is done again after a crash; from them on, all is one transaction.
    op.execute("DROP TABLE IF EXISTS revocations_of_places")
    op.create_table(
        "revocations_of_places",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("renew", sa.Integer(), nullable=False),
        sa.Column("compromised", sa.Integer(), nullable=True),
        sa.Column("requested", sa.BigInteger(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", "vault_id", "name"),
    )
    op.execute("INSERT INTO revocations_of_places SELECT * FROM revocations")
    op.drop_table("revocations")
    op.rename_table("revocations_of_places", "revocations")
    for name, columns, where in (
        ("due", ["act_at"], "act_at IS NOT NULL"),
        ("compromised", ["key_sha256"], "compromised IS NOT NULL"),
    ):
        op.create_index(f"revocations_{name}", "revocations", columns, sqlite_where=sa.text(where))
