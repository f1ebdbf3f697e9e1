"""Certificates that were seen, the tasks that look for them, and the domains that are watched for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "sightings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sightings_standing", "sightings", ["standing", "id"], unique=False)
    op.create_index("sightings_seen", "sightings", ["last_seen"], unique=False)
    op.create_table(
        "discovery_tasks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("position", sa.String(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=True),
        sa.Column("succeeded", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("discovery_tasks_due", "discovery_tasks", ["act_at"], unique=False)
    op.create_table(
        "managed_domains",
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", "vault_id"),
    )
    op.create_index("managed_domains_seen", "managed_domains", ["seen"], unique=False)
