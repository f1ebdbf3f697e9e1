"""Contacts are told of what is found revoked, unless they have chosen for themselves what they are told."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute(
        "UPDATE channels SET events = events || ' Certbroker.CertificateRevocationFound' "
        "WHERE kind = 'contacts' AND events LIKE '%Certbroker.CertificateNeedsPerson%'"
    )
