"""What the market was when an order was sent, and when the broker took it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; orders that were sent before have no row in it."""
    op.create_table(
        "arrivals",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("price", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("adv", "sigma")),
        sa.Column("ack_ms", sa.Integer(), nullable=True),
        sa.Column("accepted_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("client_order_id"),
        sa.ForeignKeyConstraint(["client_order_id"], ["orders.client_order_id"]),
        sqlite_strict=True,
    )
