"""How many certificates there are in each health, counted as they change and not by walking over all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_ONE_MORE = """
    INSERT INTO health_counts (health, certificates) VALUES (new.health, 1)
    ON CONFLICT (health) DO UPDATE SET certificates = certificates + 1;
"""
_ONE_LESS = "UPDATE health_counts SET certificates = certificates - 1 WHERE health = old.health;"


def upgrade() -> None:
    op.create_table(
        "health_counts",
        sa.Column("health", sa.String(), nullable=False),
        sa.Column("certificates", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("health"),
    )
    op.execute("INSERT INTO health_counts SELECT health, count(*) FROM lifecycles GROUP BY health")
    for name, event, does in (
        ("added", "INSERT ON lifecycles", _ONE_MORE),
        ("removed", "DELETE ON lifecycles", _ONE_LESS),
        ("changed", "UPDATE OF health ON lifecycles WHEN old.health != new.health", _ONE_LESS + _ONE_MORE),
    ):
        op.execute(f"CREATE TRIGGER lifecycles_{name} AFTER {event} BEGIN {does} END")
    # The few that are shown of many that are not well are found in their order.
    op.drop_index("lifecycles_health", table_name="lifecycles")
    op.create_index(
        "lifecycles_health",
        "lifecycles",
        ["health", "act_at"],
        unique=False,
        sqlite_where=sa.text("health != 'Healthy'"),
    )
