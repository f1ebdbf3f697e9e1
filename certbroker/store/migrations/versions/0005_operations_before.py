"""Operations of a name that are not shown any more, so that a deletion need not look at all operations for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "operations_before", "operations", ["vault_id", "name"], unique=False, sqlite_where=sa.text("pending = 0")
    )
