"""Endpoints of certificates, and deployments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("serving", sa.String(), nullable=False),
        sa.Column("alarmed", sa.Integer(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", "name", "id"),
    )
    op.create_index(
        "endpoints_due", "endpoints", ["lane", "act_at"], unique=False, sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_index(
        "endpoints_amiss",
        "endpoints",
        ["serving", "alarmed"],
        unique=False,
        sqlite_where=sa.text("serving != 'Serving'"),
    )
    op.create_table(
        "deployments",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("vault", sa.String(), nullable=False),
        sa.Column("certificate", sa.String(), nullable=False),
        sa.Column("settings", sa.String(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(
        "deployments_due", "deployments", ["act_at"], unique=False, sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_index("deployments_certificate", "deployments", ["vault", "certificate"], unique=False)
    # Contacts are told of what is new here, unless they have chosen for themselves what they are told.
    op.execute(
        "UPDATE channels SET events = events || "
        "' Certbroker.CertificateDeployed Certbroker.CertificateNotDeployed' "
        "WHERE kind = 'contacts' AND events LIKE '%Certbroker.CertificateNeedsPerson%'"
    )
