"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, and the row that fences writers."""
    _trading()
    _account()
    _history()
    _control()
    op.execute(
        "INSERT INTO fence (id, epoch, owner, at) "
        "VALUES (1, 0, 'nobody', '1970-01-01T00:00:00.000000+00:00')"
    )


def _create(name: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(name, *items, sqlite_strict=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, _COUNTER, nullable=False)


def _trading() -> None:
    _create(
        "decisions",
        *map(_text, ("id", "account", "session", "as_of", "expires_at", "received_at", "mode")),
        *map(_text, ("model_sha256", "body_sha256", "body", "state", "reasons")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decisions_by_session", "decisions", ["session"])
    _create(
        "orders",
        *map(_text, ("client_order_id", "decision_id", "account", "session", "symbol", "side")),
        sa.Column("slice", sa.Integer(), nullable=False),
        _text("quantity"),
        _text("limit_price", nullable=True),
        _text("reference_price"),
        _text("state"),
        _text("broker_id", nullable=True),
        _text("filled"),
        _text("average_price", nullable=True),
        _text("created_at"),
        _text("sent_at", nullable=True),
        _text("ended_at", nullable=True),
        _text("detail", nullable=True),
        sa.Column("unsure", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("client_order_id"),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"]),
        sa.UniqueConstraint("decision_id", "symbol", "side", "slice", name="one_order_per_leg"),
    )
    op.create_index("orders_by_session", "orders", ["session"])
    op.create_index("orders_by_state", "orders", ["state"])
    _create(
        "fills",
        _text("execution_id"),
        _text("broker_id"),
        _text("client_order_id", nullable=True),
        *map(_text, ("symbol", "side", "quantity", "price", "commission", "at")),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("fills_by_time", "fills", ["at"])
    op.create_index("fills_by_order", "fills", ["client_order_id"])


def _account() -> None:
    _create("positions", _text("symbol"), _text("quantity"), sa.PrimaryKeyConstraint("symbol"))
    _create(
        "accounts",
        _number("id"),
        *map(_text, ("at", "body", "peak_equity")),
        sa.PrimaryKeyConstraint("id"),
    )


def _history() -> None:
    _create("regimes", _text("day"), _text("name"), sa.PrimaryKeyConstraint("day"))
    _create(
        "performance",
        *map(_text, ("strategy", "day", "regime", "returns")),
        sa.PrimaryKeyConstraint("strategy", "day"),
    )
    _create(
        "rebalances",
        _number("id"),
        _text("session"),
        _text("decision_id", nullable=True),
        *map(_text, ("body", "at")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rebalances_by_session", "rebalances", ["session"])


def _control() -> None:
    _create(
        "fence",
        *map(_number, ("id", "epoch")),
        *map(_text, ("owner", "at")),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="fence_has_one_row"),
    )
    _create(
        "latch",
        _number("id"),
        *map(_text, ("state", "reason", "actor", "at")),
        sa.PrimaryKeyConstraint("id"),
    )
    _create(
        "limits",
        _number("version"),
        *map(_text, ("body", "actor", "at")),
        sa.PrimaryKeyConstraint("version"),
    )
    _create(
        "permits",
        *map(_number, ("id", "epoch")),
        _text("boot"),
        *map(_number, ("expires_ns", "ttl_ms")),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="permits_has_one_row"),
    )
    _create("audit", _number("seq"), _text("hash"), _text("body"), sa.PrimaryKeyConstraint("seq"))
