"""The cash by our own books, and what changed an account beside executions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables; the next comparison with the broker takes its cash as it is."""
    op.create_table(
        "cash",
        sa.Column("id", _COUNTER, nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="cash_has_one_row"),
        sqlite_strict=True,
    )
    op.create_table(
        "activities",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("id", "kind")),
        sa.Column("symbol", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("shares", "cash")),
        sa.Column("corporate", sa.Integer(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_index("activities_by_day", "activities", ["day"])
