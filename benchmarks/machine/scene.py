"""One run: a desk, and what people, the market, the broker and the machine can do to it."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from benchmarks.machine.desk import Desk
from benchmarks.machine.market import BARS
from benchmarks.machine.watch import Watch
from market.errors import InputError
from risk.gateway.broker import BrokerError
from risk.gateway.limits import GatewayLimits
from risk.gateway.verdict import Verdict

Trouble = tuple[str, dict[str, Any]]


class Scene:
    """What can be done; nothing is chosen here.

    Args:
        desk: to do it to.
        watch: of it.
        session: in which it begins.
    """

    def __init__(self, desk: Desk, watch: Watch, session: date) -> None:
        self.desk, self.watch, self.market = desk, watch, desk.market
        self._strangers = 0
        desk.begin(session)
        watch.begin()

    def happen(self, trouble: Trouble) -> None:
        """Let something happen, by the name of its method."""
        name, details = trouble
        getattr(self, name)(**details)

    def look_after(self) -> None:
        """End what is going on, clean up, accept what there is, and arm again."""
        self.clean_up(cancel=True)
        self.work(1)
        self.accept()
        self.arm(self.desk.account)

    # What goes wrong.

    def mend(self) -> None:
        """End whatever the broker had."""
        self.count_faults()
        self.market.plan.clear()

    def lose_answers_to_orders(self, fault: dict[str, Any], nth: int, times: int | None) -> None:
        """Plan to lose the broker's answers to orders."""
        self.market.fault(method="POST", path="/v2/orders", nth=nth, times=times, **fault)

    def lose_other_answers(self, fault: dict[str, Any], path: str, nth: int, times: int) -> None:
        """Plan to lose the broker's answers to questions."""
        if fault["kind"] != "hide":  # only a new order can be
            self.market.fault(method="GET", path=path, nth=nth, times=times, **fault)

    def die_soon(self, acts: list[int]) -> None:
        """Plan to kill the process within something, and again within its recovery."""
        self.desk.fuse.light(acts)

    def restart(self) -> None:
        """Stop the process and start it."""
        self.desk.fuse.put_out()
        self.desk.restart()

    def set_own_clock(self, seconds: float) -> None:
        """Move the gateway's own clock away from the broker's, or back."""
        self.desk.skew = timedelta(seconds=seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.market.advance(seconds)

    # What people do to stop it, or past it.

    def kill(self, how: str) -> None:
        """Stop everything: through the gateway, past it, or at the broker alone."""
        if how == "gateway":
            self.desk.survive(lambda: self.desk.gateway.kill("a person wants it", "operator"))
        elif how == "latch":
            self.desk.outside.trip("a person wants it", "operator", self.desk.clock())
        else:
            self.market.exchange.configure({"suspend_trade": True})

    def halt(self) -> None:
        """Put a HALT file."""
        self.desk.halt_file.halt("a person wants it")

    def lose_permit(self, how: str) -> None:
        """Take the permit away, or let nobody renew it any more."""
        if how == "revoked":
            self.desk.permit.revoke()
        self.desk.permit.kept = False

    def change_limit(self, name: str, factor: str) -> None:
        """Change a limit without a signature."""
        before = self.desk.gateway.limits
        after = _changed(before, name, Decimal(factor))
        if after is None:
            return
        verdict = self.desk.survive(lambda: self.desk.gateway.tighten(after, "operator"))
        if verdict is not None:
            now = self.desk.gateway.limits
            assert now == (after if verdict.allowed else before)
            self.desk.counts["limits tightened" if verdict.allowed else "limits kept"] += 1

    def stranger_orders(self, symbol: str, side: str, shares: str, limit: str | None) -> None:
        """Order past the gateway, as a person would."""
        self._strangers += 1
        body: dict[str, object] = {"symbol": symbol, "side": side, "qty": shares, "type": "market"}
        if limit is not None:
            body |= {"type": "limit", "limit_price": limit}
        if self.market.stranger(body, f"a person's {self._strangers}"):
            self.desk.counts["strangers' orders"] += 1

    def stranger_takes_an_id(self, which: int, same: bool) -> None:
        """Be faster than us as a second gateway is, with our order or another one."""
        orders = self.desk.outside.orders()
        if not orders:
            return
        order = orders[which % len(orders)]
        body: dict[str, object] = {
            "symbol": order.symbol,
            "side": order.side.value,
            "qty": format(order.quantity if same else order.quantity + 1, "f"),
            "type": "limit",
            "limit_price": format(order.limit_price or 0, "f"),
        }
        if self.market.stranger(body, order.client_order_id):
            self.watch.usurped.add(order.client_order_id)
            self.desk.counts["ids taken"] += 1

    # What the broker and the market do.

    def broker_ends_an_order(self, which: int, reject: bool) -> None:
        """Cancel or turn down what the broker had accepted, as it may, or a person at it."""
        orders = self.market.open_orders()
        if orders:
            exchange = self.market.exchange
            (exchange.reject if reject else exchange.cancel)(orders[which % len(orders)].id)
            self.desk.counts["orders ended by the broker"] += 1

    def change_terms(self, share: str, slip: str) -> None:
        """Let orders fill at once, in parts, slowly or not at all, and at other prices."""
        floor = self.market.exchange.floor
        floor.terms = replace(floor.terms, share_per_step=Decimal(share), slippage_bp=Decimal(slip))

    def change_account(self, how: str, symbol: str) -> None:
        """Split shares, let them pay, or move them or cash."""
        if how == "shares":
            self.market.move_shares(symbol, "7")
        elif how == "cash":
            self.market.move_cash("-500.25")
        elif how == "dividend":
            self.market.dividend(symbol, "0.37")
        else:
            self.market.split(symbol, {"split": "3", "reverse split": "0.1"}[how])
        self.desk.counts[f"account: {how}"] += 1

    def halt_name(self, symbol: str, halted: bool) -> None:
        """Halt a name, or let it trade again."""
        self.market.flag(symbol, **({"tradable": False} if halted else {}))

    def tell_prices(self, symbol: str, told: dict[str, Any]) -> None:
        """Take the feed of a name away, let it stand still, be off, or be right again."""
        if told.get("frozen"):
            told = {"frozen_at": self.market.now.isoformat()}
        self.market.tell(symbol, **told)

    def work(self, seconds: int) -> None:
        """Let the gateway look once, and then time pass."""
        self.desk.survive(self.desk.gateway.step)
        self.market.advance(seconds)

    def make_ready(self) -> None:
        """Let a session be open, and the latch armed; trouble that was planned goes on."""
        hours = self.market.exchange.hours
        session = hours.current(self.market.now)
        if session is None or hours.times(session)[1] - self.market.now < timedelta(hours=1):
            self.market.to_next_session()
        self.desk.permit.kept = True
        if not self.desk.outside.latch().armed or self.desk.halt_file.halted():
            self.look_after()

    def clean_up(self, cancel: bool) -> None:
        """End everything that goes wrong."""
        self.mend()
        self.desk.skew = timedelta(0)
        self.desk.halt_file.clear()
        self.market.exchange.configure({"suspend_trade": False})
        for symbol in BARS.symbols:
            self.market.flag(symbol)
            self.market.tell(symbol)
        if cancel:
            self.market.exchange.cancel_all()
        self.desk.permit.kept = True

    def accept(self) -> None:
        """Make the broker's books the beginning of ours, where somebody has moved shares."""
        held, booked = self.market.held(), self.desk.outside.positions()
        different = {n for n in {*held, *booked} if held.get(n, 0) != booked.get(n, 0)}
        if self.desk.outside.latch().armed or not different & self.market.moved:
            return
        gateway, account = self.desk.gateway, self.desk.account
        try:
            self.desk.survive(lambda: gateway.accept(account, "operator", "looked at"))
        except (InputError, BrokerError):
            return
        self.desk.counts["books accepted"] += 1

    def arm(self, typed: str) -> None:
        """Arm as a person who has seen the latch as it is."""

        def attempt() -> Verdict | None:
            try:
                return self.desk.gateway.arm(typed, self.desk.outside.latch(), "operator")
            except (InputError, BrokerError):  # the latch moved, or the broker stays suspended
                return None

        verdict = self.desk.survive(attempt)
        if verdict is not None:
            self.desk.counts["armed" if verdict.allowed else "not armed"] += 1
            assert typed == self.desk.account or not verdict.allowed

    def count_faults(self) -> None:
        """Add up what the planned faults have hit."""
        for fault in self.market.plan.faults:
            self.desk.counts[f"fault {fault.kind.value}"] += fault.hit


def _changed(limits: GatewayLimits, name: str, factor: Decimal) -> GatewayLimits | None:
    """Return limits with one of them multiplied; None where that is no limit."""
    value = getattr(limits, name)
    new: Any = value * factor if isinstance(value, Decimal) else int(value * factor)
    try:
        return replace(limits, **{name: new})
    except ValueError:
        return None
