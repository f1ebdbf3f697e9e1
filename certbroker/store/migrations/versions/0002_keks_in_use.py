"""A key-encryption key stays while a row needs it.

The database refuses to delete the key of a sealed value, and to store a value under a key that has been deleted. That
holds against a writer who closed a value long before a rotation and stores it after.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = ("versions", "operations", "issuers", "issuer_memory", "settings")


def upgrade() -> None:
    for table in _TABLES:
        with op.batch_alter_table(table) as batch:
            batch.create_foreign_key(f"{table}_kek", "keks", ["kek"], ["id"])
    # Finished operations are many and hold no key.
    op.create_index("operations_kek", "operations", ["kek"], unique=False, sqlite_where=sa.text("kek IS NOT NULL"))
