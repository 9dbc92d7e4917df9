"""What the gateway costs: a verdict, a durable basket, the walk of the audit, a start after a kill.

Engine, ledger, limits and client are the ones that trade; the exchange is a process of its own and
is asked over HTTP. The ledger is an SQLite file with synchronous=FULL and an anchor beside it, so
the disk's own fsync is measured on the same file system and stands beside what depends on it.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.beside import kill, service, shared
from benchmarks.measure import Result
from benchmarks.trader import ORDERS, Desk
from market.load import MarketConfig, load_bars
from market.quality import QualityRules
from risk.checks.judge import judge_order
from risk.gateway.execution import ExecutionSettings
from risk.gateway.limits import GatewayLimits
from risk.gateway.state import GatewayState, ProposedOrder

VERDICTS, WARMUPS = 20_000, 500
LEDGERS, BASKETS, COLD = 5, 40, 8  # each ledger sees that many baskets, and cold ones
SESSIONS = 2 * LEDGERS  # that are kept for the benchmark, at the end of the prices
STARTS = 5
SYNCS = 200
MARKET = r"(market|quality)\b"  # overrides that the exchange and the gateway take too


def run(
    limits: GatewayLimits,
    execution: ExecutionSettings,
    market: MarketConfig,
    quality: QualityRules,
) -> Result:
    """Measure all of it.

    Args:
        limits: in force.
        execution: how orders are placed.
        market: prices of the exchange, with at least 20 names, and the second source.
        quality: of the market.
    """
    bars = load_bars(market, quality)
    if len(bars.symbols) < ORDERS:
        raise SystemExit(f"a basket needs {ORDERS} names, the market has {len(bars.symbols)}")
    words = shared(MARKET, sys.argv[1:])
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Early enough that every session of the benchmark has its prices.
        start = f"exchange.start='{bars.dates[-SESSIONS]}T12:00:00+00:00'"
        with service(folder, "paper-exchange", *words, start, "port=0") as (_, url):
            desk = Desk(folder, url, bars, market, limits, execution)
            desk.open()
            return _measured(desk, words, market)


def _measured(desk: "Desk", words: Sequence[str], market: MarketConfig) -> Result:
    syncs = _fsync_s(desk.folder)
    gateway = desk.gateway("first")
    gateway.invest()
    warm: list[float] = []
    cold: list[float] = []
    calls: dict[str, int] = {}
    for number in range(LEDGERS):
        desk.next_day()
        gateway = desk.gateway(f"ledger{number}")
        found, asked = gateway.baskets(COLD, cold=True)
        cold, calls["cold"] = cold + found, max(asked)
        gateway.baskets(1, cold=False)
        found, asked = gateway.baskets(BASKETS, cold=False)
        warm, calls["warm"] = warm + found, max(asked)
    state, orders = gateway.basket_to_judge()
    verdicts = _verdicts_s(state, orders, desk.limits)
    records, replayed, walked = desk.verified()
    starts = _starts_s(desk, words, market)
    figures: dict[str, object] = {
        "verdict_p50_ms": _ms(verdicts, 50),
        "verdict_p99_ms": _ms(verdicts, 99),
        "verdicts_per_s": round(len(verdicts) / sum(verdicts)),
        "basket_durable_p50_ms": _ms(warm, 50),
        "basket_durable_p99_ms": _ms(warm, 99),
        "basket_broker_calls": calls["warm"],
        "basket_cold_p50_ms": _ms(cold, 50),
        "basket_cold_p99_ms": _ms(cold, 99),
        "basket_cold_broker_calls": calls["cold"],
        "basket_orders": ORDERS,
        "fsync_p50_ms": _ms(syncs, 50),
        "fsync_p99_ms": _ms(syncs, 99),
        "verify_records_per_s": round(records / walked),
        "verify_records": records,
        "verify_verdicts": replayed,
        "kill_to_ready_s": round(max(starts), 2),
    }
    rows = (
        ("verdict on one order, all checks", str(len(verdicts)), *_row(verdicts)),
        (f"{ORDERS} orders, decision to durable", str(len(warm)), *_row(warm)),
        ("the same, nothing known of the names", str(len(cold)), *_row(cold)),
        ("fsync of 4 KiB on that disk", str(len(syncs)), *_row(syncs)),
        ("SIGKILL to ready", str(len(starts)), *_row(starts)),
    )
    return Result("gateway", figures, ("what", "times", "p50 ms", "p99 ms", "worst ms"), rows)


def _verdicts_s(
    state: GatewayState, orders: Sequence[ProposedOrder], limits: GatewayLimits
) -> list[float]:
    """Return the seconds of one verdict after the other, on each order of a basket in turn."""
    times = []
    for number in range(WARMUPS + VERDICTS):
        order = orders[number % len(orders)]
        start = time.perf_counter()
        verdict = judge_order(state, order, limits)
        times.append(time.perf_counter() - start)
        if not verdict.allowed:
            raise SystemExit(f"refused: {verdict.violations[0]}")
    return times[WARMUPS:]


def _fsync_s(folder: Path) -> list[float]:
    """Return the seconds of writing 4 KiB at the end of a file and waiting for the disk."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            start = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return times


def _starts_s(desk: Desk, words: Sequence[str], market: MarketConfig) -> list[float]:
    """Return the seconds from a SIGKILL until the next gateway answers, reconciled and halted."""
    command = (
        "gateway", *words, f"market.assumed_adv={market.assumed_adv}",
        f"broker.trading_url={desk.url}", f"broker.data_url={desk.url}", "service.port=0",
        "service.clock=broker", "service.supervise=false",
    )  # fmt: skip
    times, start = [], 0.0
    for number in range(STARTS + 1):
        with service(desk.folder, *command) as (process, _):
            if number:
                times.append(time.perf_counter() - start)
            start = time.perf_counter()
            kill(process)
    return times


def _ms(times: Sequence[float], percentile: int) -> float:
    return round(float(np.percentile(times, percentile)) * 1e3, 3)


def _row(times: Sequence[float]) -> tuple[str, str, str]:
    return f"{_ms(times, 50):.3f}", f"{_ms(times, 99):.3f}", f"{max(times) * 1e3:.3f}"
