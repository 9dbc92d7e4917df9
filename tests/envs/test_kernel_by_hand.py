"""Five days, two assets, two agents and every cost, worked out in decimal arithmetic to the cent.

Nothing of the product computes here what it is compared with. The ledger below is written the way
one would fill in a sheet of paper, one agent and one asset at a time; the amounts in `NAVS` and
`PAID` are what came out of it, so that ledger and kernel cannot drift together.
"""

from collections.abc import Sequence
from decimal import Decimal

import pytest
import torch

from envs.costs import CostModel
from envs.kernel import Books, Outcome, Prices, held_weights, reset, step

D = Decimal

# Row 0 is the close on which everything starts; rows 1 to 5 are the five days.
OPEN = [("20", "50"), ("20.50", "49"), ("19", "52"), ("21", "51"), ("22", "51.50"), ("23", "54")]
CLOSE = [("20", "50"), ("21", "48"), ("20", "51"), ("22", "51"), ("21.50", "53"), ("21.50", "55")]
ADV = [("2000000", "900000")] * 6  # account currency a day
VOLATILITY = ("0.02", "0.03")  # daily
HALTED = {(3, 1)}  # no fill for the second asset on day 3
PAYOUT = {(5, 0): "0.60"}  # the first asset is gone on day 5: 60 % of its last close in cash
COMMISSION, SPREAD, IMPACT = "0.0002", "0.0010", "0.5"  # of notional; half the spread is paid
BORROW, INTEREST = "0.05", "0.0001"  # a year; a session
CAPITAL = "100000"

# Decided on rows 0 to 4; None asks for what is held. One line per agent.
TARGETS: list[list[tuple[str, str] | None]] = [
    [("0.50", "0.30"), ("0.20", "0.60"), ("0.70", "0.10"), ("0.30", "0.30"), ("0.10", "0.80")],
    [("0.80", "-0.40"), ("-0.20", "0.90"), None, ("0.60", "0.90"), ("0.30", "-0.50")],
]

NAVS = [
    ("100433.23", "102418.68"),
    ("97644.14", "87739.97"),
    ("100600.31", "85838.87"),
    ("101253.28", "87519.40"),
    ("91301.03", "67540.50"),
]
PAID = {
    "commission": ("46.73", "105.23"),
    "spread": ("116.83", "263.07"),
    "impact": ("452.72", "1882.86"),
    "borrow": ("0.00", "18.21"),
}


class Account:
    """One agent's cash, shares and costs so far."""

    def __init__(self) -> None:
        self.cash = D(CAPITAL)
        self.shares = [D(0), D(0)]
        self.paid = dict.fromkeys(("commission", "spread", "impact", "borrow"), D(0))

    def worth(self, prices: tuple[str, str]) -> Decimal:
        return self.cash + sum(s * D(p) for s, p in zip(self.shares, prices, strict=True))


def open_the_day(account: Account, day: int) -> None:
    """Pay out what is gone; pay for what was owed over night; earn on what lay idle."""
    last = CLOSE[day - 1]
    for i in (0, 1):
        if (day, i) in PAYOUT:
            account.cash += account.shares[i] * D(last[i]) * D(PAYOUT[day, i])
            account.shares[i] = D(0)
    owed = max(-account.cash, D(0))
    owed += sum(max(-account.shares[i] * D(last[i]), D(0)) for i in (0, 1))
    fee = owed * D(BORROW) / 252
    account.cash += max(account.cash, D(0)) * D(INTEREST) - fee
    account.paid["borrow"] += fee


def baskets(
    accounts: list[Account], day: int
) -> tuple[list[list[Decimal]], list[tuple[Decimal, Decimal, Decimal]]]:
    """Return the trades of both agents and what they cost, after going round until both stand."""
    fees = [(D(0), D(0), D(0))] * 2
    for _ in range(60):
        trades = [
            wanted(account, TARGETS[k][day - 1], day, sum(fees[k], D(0)))
            for k, account in enumerate(accounts)
        ]
        fees = [cost_of(k, trades, day) for k in (0, 1)]
    return trades, fees


def wanted(
    account: Account, target: tuple[str, str] | None, day: int, fees: Decimal
) -> list[Decimal]:
    """Return the trades that reach a target after `fees`, as far as the cash goes."""
    if target is None:
        return [D(0), D(0)]
    worth = account.worth(OPEN[day]) - fees
    trades = []
    for i in (0, 1):
        fixed = (day, i) in HALTED or (day, i) in PAYOUT
        trades.append(D(0) if fixed else D(target[i]) * worth - account.shares[i] * D(OPEN[day][i]))
    bought = sum((t for t in trades if t > 0), D(0))
    sold = sum((-t for t in trades if t < 0), D(0))
    credit = max(sum(map(D, target)) - 1, D(0)) * account.worth(OPEN[day])
    purse = max(account.cash - fees + credit + sold, D(0))
    if bought > purse:
        trades = [t * purse / bought if t > 0 else t for t in trades]
    return trades


def cost_of(k: int, trades: list[list[Decimal]], day: int) -> tuple[Decimal, Decimal, Decimal]:
    """Return commission, half the spread and impact of agent k's trades."""
    traded = sum(map(abs, trades[k]), D(0))
    impact = D(0)
    for i in (0, 1):
        flow = trades[0][i] + trades[1][i]
        if trades[k][i] * flow > 0:
            rate = D(IMPACT) * D(VOLATILITY[i]) * (abs(flow) / D(ADV[day - 1][i])).sqrt()
            impact += rate * abs(trades[k][i])
    return traded * D(COMMISSION), traded * D(SPREAD) / 2, impact


def fill_in_the_sheet() -> tuple[list[list[Decimal]], list[Account]]:
    """Return the NAV of both agents after each day, and their accounts at the end."""
    accounts, navs = [Account(), Account()], []
    for day in range(1, 6):
        for account in accounts:
            open_the_day(account, day)
        trades, fees = baskets(accounts, day)
        for account, trade, fee in zip(accounts, trades, fees, strict=True):
            for i in (0, 1):
                account.shares[i] += trade[i] / D(OPEN[day][i])
            account.cash -= sum(trade, D(0)) + sum(fee, D(0))
            for name, amount in zip(("commission", "spread", "impact"), fee, strict=True):
                account.paid[name] += amount
        navs.append([account.worth(CLOSE[day]) for account in accounts])
    return navs, accounts


def cents(amount: Decimal) -> str:
    return str(amount.quantize(D("0.01")))


def test_the_sheet_of_paper_says_what_is_written_here() -> None:
    navs, accounts = fill_in_the_sheet()
    assert [tuple(map(cents, day)) for day in navs] == NAVS
    for name, amounts in PAID.items():
        assert tuple(cents(account.paid[name]) for account in accounts) == amounts


def test_the_first_day_by_pocket_calculator() -> None:
    """Both agents trade from 100 010 after a night's interest, at 20.50 and 49.

    First asset: about 50 000 and 80 000 are bought, 130 000 of 2 000 000 a day. Rate 0.5 x 2 % x
    sqrt(0.065) = 25.5 bp, paid by both. Second asset: 30 000 bought, 40 000 sold short, a flow of
    -10 000 of 900 000 a day. Rate 0.5 x 3 % x sqrt(0.0111) = 15.8 bp, paid by the seller alone.
    First agent: 80 000 x 7 bp + 50 000 x 25.5 bp = 56 + 127 = 183.
    Second agent: 120 000 x 7 bp + 80 000 x 25.5 bp + 40 000 x 15.8 bp = 84 + 204 + 63 = 351.
    """
    _, outcome = follow_kernel()[0]
    assert outcome.cost.total[0].tolist() == [pytest.approx(183, abs=2), pytest.approx(351, abs=2)]


def follow_kernel() -> list[tuple[Books, Outcome]]:
    """Step the product through the same five days."""
    prices = Prices(
        open=money(OPEN),
        close=money(CLOSE),
        tradable=torch.tensor(
            [
                [(day, i) not in HALTED and (day, i) not in PAYOUT for i in (0, 1)]
                for day in range(6)
            ]
        ),
        payout=money([[PAYOUT.get((day, i), "nan") for i in (0, 1)] for day in range(6)]),
        daily_volatility=money([VOLATILITY] * 6),
        adv=money(ADV),
        cash_return=float(INTEREST),
    )
    model = CostModel(
        commission_bp=2.0, spread_bp=10.0, impact=float(IMPACT), borrow_rate=float(BORROW)
    )
    books = reset(torch.tensor([0]), float(CAPITAL), 2, 2)
    days = []
    for day in range(1, 6):
        held = held_weights(books, prices)[0].tolist()
        asked = [TARGETS[k][day - 1] or held[k] for k in (0, 1)]
        books, outcome = step(books, money(asked).unsqueeze(0), prices, model, money([["1"]]))
        days.append((books, outcome))
    return days


def money(rows: Sequence[Sequence[str | float]]) -> torch.Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def test_the_kernel_agrees_to_the_cent() -> None:
    days = follow_kernel()
    for (_, outcome), expected in zip(days, NAVS, strict=True):
        assert outcome.nav_after[0].tolist() == [
            pytest.approx(float(v), abs=0.0051) for v in expected
        ]
    for name, expected in PAID.items():
        paid = sum(getattr(outcome.cost, name)[0] for _, outcome in days)
        assert paid.tolist() == [pytest.approx(float(v), abs=0.0051) for v in expected]


def test_the_episode_shows_what_it_is_meant_to_show() -> None:
    """A halt that freezes and starves a buy, a delisting, credit, a short, a day without orders."""
    days = follow_kernel()
    frozen, before = days[2][0].shares, days[1][0].shares
    assert torch.equal(frozen[0, :, 1], before[0, :, 1])
    assert days[2][0].cash[0, 0].item() == pytest.approx(0.0, abs=0.01)
    assert not days[2][1].trade[0, 1].any()
    assert (days[0][0].shares[0, 1, 1] < 0.0) and (days[3][0].cash[0, 1] < 0.0)
    assert not days[4][0].shares[0, :, 0].any()
