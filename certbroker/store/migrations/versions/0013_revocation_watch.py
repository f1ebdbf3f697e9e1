"""Watching for revocation: who is asked, who depends on that, and what is known of each certificate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "revocation_sources",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("about", sa.LargeBinary(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("holding", sa.Text(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("pass_after", sa.String(), nullable=True),
        sa.Column("pass_all", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for name, columns, where in (
        ("due", ["act_at"], "act_at IS NOT NULL"),
        ("passing", ["id"], "pass_after IS NOT NULL"),
        ("lists", ["url"], "kind = 'crl'"),
        ("unwell", ["status", "url"], "status != 'fresh'"),
    ):
        op.create_index(f"revocation_sources_{name}", "revocation_sources", columns, sqlite_where=sa.text(where))
    op.create_table(
        "revocation_dependents",
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "vault_id", "name", "serial"),
    )
    op.create_index("revocation_dependents_of", "revocation_dependents", ["vault_id", "name"])
    op.create_table(
        "revocation_watches",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", "name"),
    )
    op.create_index(
        "revocation_watches_due", "revocation_watches", ["act_at"], sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_index(
        "revocation_watches_standing",
        "revocation_watches",
        ["standing"],
        sqlite_where=sa.text("standing != 'Good' AND standing != 'NotCovered'"),
    )
    # Those that are there already are looked at within an hour, one after the other.
    op.execute(
        "INSERT INTO revocation_watches (vault_id, name, standing, state, act_at, fence) "
        "SELECT vault_id, name, 'Unchecked', '{}', "
        "(CAST(strftime('%s', 'now') AS INTEGER) + abs(random()) % 3600) * 1000000, 0 FROM lifecycles"
    )
