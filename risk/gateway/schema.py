"""The tables of the ledger; the migrations build them, and a test compares the two.

Numbers of shares and money are TEXT, because no binary float holds them exactly. Times are TEXT in
UTC with microseconds, so that their order as text is their order in time.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
COUNTER = BigInteger().with_variant(Integer(), "sqlite")


def _key(name: str) -> Column[int]:
    return Column(name, COUNTER, primary_key=True, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _maybe(name: str) -> Column[str]:
    return Column(name, Text)


fence = Table(
    "fence",
    metadata,
    _key("id"),
    Column("epoch", COUNTER, nullable=False),
    _text("owner"),
    _text("at"),
    CheckConstraint("id = 1", name="fence_has_one_row"),
    sqlite_strict=True,
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Text, primary_key=True),
    _text("account"),
    _text("session"),
    _text("as_of"),
    _text("expires_at"),
    _text("received_at"),
    _text("mode"),
    _text("model_sha256"),
    _text("body_sha256"),
    _text("body"),
    _text("state"),
    _text("reasons"),
    Index("decisions_by_session", "session"),
    sqlite_strict=True,
)

orders = Table(
    "orders",
    metadata,
    Column("client_order_id", Text, primary_key=True),
    Column("decision_id", Text, ForeignKey("decisions.id"), nullable=False),
    _text("account"),
    _text("session"),
    _text("symbol"),
    _text("side"),
    Column("slice", Integer, nullable=False),
    _text("quantity"),
    _maybe("limit_price"),
    _text("reference_price"),
    _text("state"),
    _maybe("broker_id"),
    _text("filled"),
    _maybe("average_price"),
    _text("created_at"),
    _maybe("sent_at"),
    _maybe("ended_at"),
    _maybe("detail"),
    Column("unsure", Integer, nullable=False),
    UniqueConstraint("decision_id", "symbol", "side", "slice", name="one_order_per_leg"),
    Index("orders_by_session", "session"),
    Index("orders_by_state", "state"),
    sqlite_strict=True,
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("client_order_id", Text, ForeignKey("orders.client_order_id"), primary_key=True),
    _text("at"),
    _text("price"),
    _maybe("adv"),
    _maybe("sigma"),
    Column("ack_ms", Integer),
    _maybe("accepted_at"),
    sqlite_strict=True,
)

fills = Table(
    "fills",
    metadata,
    Column("execution_id", Text, primary_key=True),
    _text("broker_id"),
    _maybe("client_order_id"),
    _text("symbol"),
    _text("side"),
    _text("quantity"),
    _text("price"),
    _text("commission"),
    _text("at"),
    Index("fills_by_time", "at"),
    Index("fills_by_order", "client_order_id"),
    sqlite_strict=True,
)

positions = Table(
    "positions",
    metadata,
    Column("symbol", Text, primary_key=True),
    _text("quantity"),
    sqlite_strict=True,
)

cash = Table(
    "cash",
    metadata,
    _key("id"),
    _text("amount"),
    CheckConstraint("id = 1", name="cash_has_one_row"),
    sqlite_strict=True,
)

activities = Table(
    "activities",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),
    _maybe("symbol"),
    _text("shares"),
    _text("cash"),
    Column("corporate", Integer, nullable=False),
    _text("day"),
    Index("activities_by_day", "day"),
    sqlite_strict=True,
)

accounts = Table(
    "accounts",
    metadata,
    _key("id"),
    _text("at"),
    _text("body"),
    _text("peak_equity"),
    sqlite_strict=True,
)

regimes = Table(
    "regimes",
    metadata,
    Column("day", Text, primary_key=True),
    _text("name"),
    sqlite_strict=True,
)

performance = Table(
    "performance",
    metadata,
    Column("strategy", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    _text("regime"),
    _text("returns"),
    sqlite_strict=True,
)

rebalances = Table(
    "rebalances",
    metadata,
    _key("id"),
    _text("session"),
    _maybe("decision_id"),
    _text("body"),
    _text("at"),
    Index("rebalances_by_session", "session"),
    sqlite_strict=True,
)

days = Table(
    "days",
    metadata,
    Column("session", Text, primary_key=True),
    _text("starting_equity"),
    _text("equity"),
    _text("cash"),
    _text("peak"),
    Column("losing_days", COUNTER, nullable=False),
    Column("stopped", COUNTER, nullable=False),
    _text("exposure"),
    _text("volatility"),
    _maybe("model"),
    sqlite_strict=True,
)

holdings = Table(
    "holdings",
    metadata,
    Column("symbol", Text, primary_key=True),
    _text("shares"),
    _text("entry"),
    _text("peak"),
    Column("age", COUNTER, nullable=False),
    Column("barred", COUNTER, nullable=False),
    sqlite_strict=True,
)

ramps = Table(
    "ramps",
    metadata,
    Column("model", Text, primary_key=True),
    Column("stage", COUNTER, nullable=False),
    Column("sessions", COUNTER, nullable=False),
    _text("actor"),
    _text("at"),
    sqlite_strict=True,
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", Text, primary_key=True),
    _text("base"),
    _text("limits"),
    _text("actor"),
    _text("at"),
    _text("signatures"),
    _maybe("signed_in"),
    _text("state"),
    sqlite_strict=True,
)

latch = Table(
    "latch",
    metadata,
    _key("id"),
    _text("state"),
    _text("reason"),
    _text("actor"),
    _text("at"),
    sqlite_strict=True,
)

limits = Table(
    "limits",
    metadata,
    _key("version"),
    _text("body"),
    _text("actor"),
    _text("at"),
    sqlite_strict=True,
)

# Renewed every few seconds and worthless a moment later: the one table without audit records.
permits = Table(
    "permits",
    metadata,
    _key("id"),
    Column("epoch", COUNTER, nullable=False),
    _text("boot"),
    Column("expires_ns", COUNTER, nullable=False),
    Column("ttl_ms", COUNTER, nullable=False),
    CheckConstraint("id = 1", name="permits_has_one_row"),
    sqlite_strict=True,
)

audit = Table(
    "audit",
    metadata,
    _key("seq"),
    _text("hash"),
    _text("body"),
    sqlite_strict=True,
)

AUDITED = (
    fence,
    decisions,
    orders,
    arrivals,
    fills,
    positions,
    cash,
    activities,
    accounts,
    regimes,
    performance,
    rebalances,
    days,
    holdings,
    ramps,
    proposals,
    latch,
    limits,
)
