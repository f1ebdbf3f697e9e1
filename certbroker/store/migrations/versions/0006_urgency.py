"""What is urgent, and whose a certificate is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_URGENT = sa.text("act_at IS NOT NULL AND urgency IS NOT NULL")


def upgrade() -> None:
    for table in ("operations", "lifecycles"):
        op.add_column(table, sa.Column("urgency", sa.Integer(), nullable=True))
        op.create_index(f"{table}_urgent", table, ["urgency", "act_at"], unique=False, sqlite_where=_URGENT)
    op.execute("UPDATE lifecycles SET issuer = lower(issuer) WHERE issuer IS NOT NULL")
    op.create_index(
        "lifecycles_issuer",
        "lifecycles",
        ["issuer", "vault_id", "name"],
        unique=False,
        sqlite_where=sa.text("issuer IS NOT NULL"),
    )
