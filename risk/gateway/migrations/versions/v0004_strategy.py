"""What the strategy's rules remember, how far each policy has come, and proposals of limits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    _create(
        "days",
        *map(_text, ("session", "starting_equity", "equity", "cash", "peak")),
        *map(_number, ("losing_days", "stopped")),
        *map(_text, ("exposure", "volatility")),
        sa.Column("model", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("session"),
    )
    _create(
        "holdings",
        *map(_text, ("symbol", "shares", "entry", "peak")),
        *map(_number, ("age", "barred")),
        sa.PrimaryKeyConstraint("symbol"),
    )
    _create(
        "ramps",
        _text("model"),
        *map(_number, ("stage", "sessions")),
        *map(_text, ("actor", "at")),
        sa.PrimaryKeyConstraint("model"),
    )
    _create(
        "proposals",
        *map(_text, ("id", "base", "limits", "actor", "at", "signatures")),
        sa.Column("signed_in", sa.Text(), nullable=True),
        _text("state"),
        sa.PrimaryKeyConstraint("id"),
    )


def _create(name: str, *items: sa.schema.SchemaItem) -> None:
    op.create_table(name, *items, sqlite_strict=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, _COUNTER, nullable=False)
