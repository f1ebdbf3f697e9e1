"""Certificates are looked after: renewal, revocation, rate budgets, channels and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "lifecycles",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("health", sa.String(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("staged", sa.String(), nullable=True),
        sa.Column("activate_at", sa.BigInteger(), nullable=True),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", "name"),
    )
    op.create_index(
        "lifecycles_due", "lifecycles", ["act_at"], unique=False, sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_index(
        "lifecycles_health", "lifecycles", ["health"], unique=False, sqlite_where=sa.text("health != 'Healthy'")
    )
    # Every certificate that is there is looked at once.
    op.execute(
        "INSERT INTO lifecycles (vault_id, name, health, state, act_at, fence) "
        "SELECT vault_id, name, 'Unknown', '{}', 0, 0 FROM objects WHERE kind = 'certificate'"
    )
    op.create_table(
        "revocations",
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
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index(
        "revocations_due", "revocations", ["act_at"], unique=False, sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_index(
        "revocations_compromised",
        "revocations",
        ["key_sha256"],
        unique=False,
        sqlite_where=sa.text("compromised IS NOT NULL"),
    )
    op.create_table(
        "budgets",
        sa.Column("ca", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("full_at", sa.BigInteger(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("over_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ca", "scope", "subject"),
    )
    op.create_index("budgets_over", "budgets", ["over_at"], unique=False)
    op.create_index("budgets_held", "budgets", ["held_until"], unique=False, sqlite_where=sa.text("held_until > 0"))
    op.create_table(
        "reservations",
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("ca", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("over_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("operation_id", "step", "ca", "scope", "subject"),
    )
    op.create_index(
        "reservations_pending",
        "reservations",
        ["ca", "scope", "subject"],
        unique=False,
        sqlite_where=sa.text("pending = 1"),
    )
    op.create_index("reservations_over", "reservations", ["over_at"], unique=False)
    op.create_table(
        "channels",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("display", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("kek", sa.Integer(), sa.ForeignKey("keks.id", name="channels_kek"), nullable=True),
        sa.Column("dek", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("vault_id", "name"),
    )
    op.create_index(
        "channels_due", "channels", ["lane", "act_at"], unique=False, sqlite_where=sa.text("act_at IS NOT NULL")
    )
    op.create_table(
        "outbox",
        sa.Column("vault_id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("act_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("vault_id", "channel", "event_id"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["vault_id", "channel", "act_at"],
        unique=False,
        sqlite_where=sa.text("act_at IS NOT NULL"),
    )
    op.create_index(
        "outbox_settled",
        "outbox",
        ["vault_id", "outcome", "settled"],
        unique=False,
        sqlite_where=sa.text("settled IS NOT NULL"),
    )
    op.create_index(
        "outbox_dead",
        "outbox",
        ["vault_id", "channel", "event_id"],
        unique=False,
        sqlite_where=sa.text("outcome = 'dead'"),
    )
    op.create_index("operations_retired", "operations", ["created"], unique=False, sqlite_where=sa.text("pending = 0"))
    op.create_index(
        "versions_expiring",
        "versions",
        ["exp"],
        unique=False,
        sqlite_where=sa.text("kind = 'secret' AND payload IS NOT NULL AND exp IS NOT NULL"),
    )
