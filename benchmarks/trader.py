"""An account at an exchange beside the benchmark, and gateways of it with new ledgers."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from benchmarks.beside import KEY, SECRET, Administration
from brokers.alpaca import AlpacaBroker
from brokers.settings import AlpacaSettings, Keys
from market.bars import Bars
from market.load import MarketConfig
from risk.gateway.audit import FileAnchor
from risk.gateway.engine import Gateway
from risk.gateway.execution import ExecutionSettings
from risk.gateway.ledger import Ledger
from risk.gateway.limits import GatewayLimits
from risk.gateway.market_facts import BarsSource
from risk.gateway.observer import Memory, Observer, Permissions
from risk.gateway.permit import HaltFile, LedgerPermit
from risk.gateway.records import Decision, OrderRequest
from risk.gateway.replay import judged_again
from risk.gateway.state import GatewayState, ProposedOrder
from risk.gateway.stored import DecisionState, StoredOrder
from risk.gateway.submission import Answer, Mode
from risk.gateway.verify import verify

ORDERS = 20  # of a basket
MODEL = "a" * 64
PERMIT_MS = 30_000
FORGOTTEN_S = 601  # of the exchange's time: what was known of a name before is asked for again
STEPS, AFTERWARDS = 60, 3  # of five seconds each; then to the close
HALF, EVEN, LARGE, SMALL = (Decimal(text) for text in ("0.5", "0.024", "0.034", "0.014"))


class Desk:
    """An account at the exchange, and what its gateways are made of.

    Args:
        folder: for ledgers.
        url: of the exchange.
        bars: its prices, and the second source.
        market: where those come from.
        limits: in force.
        execution: how orders are placed.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        bars: Bars,
        market: MarketConfig,
        limits: GatewayLimits,
        execution: ExecutionSettings,
    ) -> None:
        self.folder, self.url, self.bars, self.limits = folder, url, bars, limits
        self.execution, self._market = execution, market
        self.broker = AlpacaBroker(AlpacaSettings(url, url, "K", "S", 2.0, 5.0), Keys(KEY, SECRET))
        self.exchange = Administration(url)
        self.source = BarsSource(
            lambda: bars, lambda: "1", market.exchange, market.assumed_adv, correlation_cap=0.99
        )
        self.now = self.broker.clock().now

    def open(self) -> None:
        """Bring the exchange to half an hour after an opening."""
        self.exchange.bar_shorts()
        self.drive(to="next_open")
        self.drive(advance_s=1800)

    def next_day(self) -> None:
        """Bring it to the same hour of the next session."""
        self.open()

    def drive(self, **how: str | float) -> None:
        """Move the exchange's time, and the gateways' own with it."""
        self.exchange.drive(**how)
        self.now = self.broker.clock().now

    def gateway(self, name: str) -> "Trader":
        """Return a gateway with a new ledger, armed."""
        return Trader(self, self.folder / name)

    def verified(self) -> tuple[int, int, float]:
        """Return records, verdicts judged again, and seconds of a walk over every ledger."""
        records, verdicts, walked = 0, 0, 0.0
        for folder in sorted(path.parent for path in self.folder.glob("*/ledger")):
            anchor = FileAnchor(folder / "anchor")
            with closing(Ledger(f"sqlite:///{folder}/ledger", anchor)) as ledger:
                start = time.perf_counter()
                found = verify(ledger, anchor, judged_again)
                walked += time.perf_counter() - start
            if not found.ok:
                raise SystemExit(f"the audit is broken: {found.problems[0]}")
            records, verdicts = records + found.records, verdicts + found.verdicts
        return records, verdicts, walked


class Trader:
    """A gateway of the desk's account.

    Args:
        desk: of the account.
        folder: of its ledger; made here.
    """

    def __init__(self, desk: Desk, folder: Path) -> None:
        folder.mkdir()
        self._desk = desk
        self._ledger = Ledger(f"sqlite:///{folder}/ledger", FileAnchor(folder / "anchor"))
        self._ledger.migrate()
        self._epoch = self._ledger.acquire("benchmark")
        self._permit = LedgerPermit(self._ledger)
        names = frozenset(desk.bars.symbols)
        permissions = Permissions(names, frozenset(), frozenset({MODEL}))
        self._observer = Observer(
            desk.broker, self._ledger, self._epoch, desk.source, self._permit,
            HaltFile(folder / "HALT"), permissions, Memory(), self._time, None,
        )  # fmt: skip
        self._gateway = Gateway(
            desk.broker, self._ledger, self._epoch, self._observer, desk.limits, desk.execution,
            self._time,
        )  # fmt: skip
        self._permit.renew(self._epoch, PERMIT_MS)
        self._gateway.recover()
        self._arm()
        self._number = 0

    def _time(self) -> datetime:
        return self._desk.now

    def _arm(self) -> None:
        self._permit.renew(self._epoch, PERMIT_MS)
        account = self._desk.broker.account().id
        verdict = self._gateway.arm(account, self._ledger.latch(), "benchmark")
        if not verdict.allowed:
            raise SystemExit(f"not armed: {verdict.violations[0]}")

    def invest(self) -> None:
        """Buy a basket, and wait until the last of it has ended: by a fill, or with the session."""
        answer = self._submitted(self._decision(lambda _: EVEN))
        for number in range(STEPS + AFTERWARDS):
            self._permit.renew(self._epoch, PERMIT_MS)
            self._gateway.step()
            self._desk.drive(**({"advance_s": 5} if number < STEPS else {"to": "next_close"}))
            found = self._gateway.answer(answer.decision_id)
            if found is not None and found.state is DecisionState.done:
                return
        raise SystemExit("the first basket does not end")

    def baskets(self, count: int, cold: bool) -> tuple[list[float], list[int]]:
        """Return seconds and broker calls of each of several baskets, of which none is sent.

        Args:
            count: of baskets.
            cold: nothing is known of any name, as of names that are not held; of those that are,
                the gateway's own looks keep it known.
        """
        times, calls = [], []
        for _ in range(count):
            decision = self._rebalancing()
            self._desk.drive(advance_s=FORGOTTEN_S if cold else 5)
            self._permit.renew(self._epoch, PERMIT_MS)
            self._gateway.reconcile()
            self._desk.exchange.asked()
            start = time.perf_counter()
            self._submitted(decision)
            times.append(time.perf_counter() - start)
            calls.append(self._desk.exchange.asked())
            self._gateway.kill("the next basket", "benchmark")
            self._arm()
        return times, calls

    def basket_to_judge(self) -> tuple[GatewayState, list[ProposedOrder]]:
        """Return a basket that is about to be sent, and what is known then."""
        decision = self._rebalancing()
        answer = self._submitted(decision)
        state = self._observer.look(self._desk.limits, decision, self._desk.now)
        return state, [_proposed(order) for order in answer.orders]

    def _submitted(self, decision: Decision) -> Answer:
        answer = self._gateway.submit(decision, Mode.paper)
        if answer.state is not DecisionState.accepted or len(answer.orders) != ORDERS:
            raise SystemExit(f"not a basket of {ORDERS}: {len(answer.orders)} {answer.verdict}")
        return answer

    def _rebalancing(self) -> Decision:
        """Return a decision that buys half of the names and sells the other half."""
        return self._decision(lambda n: LARGE if (n + self._number) % 2 else SMALL)

    def _decision(self, weight: Callable[[int], Decimal]) -> Decision:
        self._number += 1
        desk = self._desk
        previous, hours = desk.source.previous(desk.now), desk.source.hours(desk.now)
        assert previous is not None and hours is not None, "it is a session"
        book = {symbol: weight(n) for n, symbol in enumerate(desk.bars.symbols[:ORDERS])}
        return Decision(
            id=os.urandom(32).hex(),
            account=desk.broker.account().id,
            as_of=previous[0],
            expires_at=hours.close,
            model_sha256=MODEL,
            weights=book,
            agents={"one": (HALF, book), "two": (HALF, book)},
            body_sha256=os.urandom(32).hex(),
        )


def _proposed(order: StoredOrder) -> ProposedOrder:
    """Return an intent as what is judged before it is sent."""
    request = OrderRequest(
        order.client_order_id, order.symbol, order.side, order.quantity, order.limit_price
    )
    return ProposedOrder(
        request, order.decision_id, order.slice, 1, order.created_at, order.reference_price
    )
