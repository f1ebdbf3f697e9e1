"""Who asks a source is not counted any more: what has been stored about it is, and says who came too late."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.drop_column("revocation_sources", "fence")
