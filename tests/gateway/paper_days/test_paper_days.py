"""Consecutive days of a paper account on real prices, with what goes wrong in them.

Every day brings faults of the broker and a SIGKILL of the gateway's process at a random point; some
days bring splits, dividends, halted names, partial fills, or a stranger's orders and shares, after
which a person looks and arms again. In the evening ledger and exchange must hold the same shares
and cents, and every order exactly once.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from risk.gateway.process import open_ledger
from risk.gateway.records import TERMINAL, Decision, OrderState
from risk.gateway.stored import DecisionState, Latch
from risk.gateway.submission import Answer, Mode

MODEL = "a" * 64
SEED = 20_251
DAYS, SOAK_DAYS = 3, 250
FAULTS_A_DAY = 3  # at most
POINTS = 220  # of a day, at one of which the gateway is killed; on a quiet day there are fewer
LONGEST_S = 2.5  # until a kill by the clock
STEPS, STEP_S = 20, 45.0  # of a day, and the exchange's time that passes with each
CENT = Decimal("0.01")

REQUESTS = (
    ("POST", "/v2/orders"), ("GET", "/v2/orders.*"), ("GET", "/v2/positions"),
    ("GET", "/v2/account"), ("GET", "/v2/account/activities.*"), ("GET", "/v2/clock"),
)  # fmt: skip
FAULTS: tuple[dict[str, Any], ...] = (
    *({"kind": "status", "status": status, "after": after}
      for status in (500, 502, 503, 504) for after in (False, True)),
    *({"kind": kind, "after": after} for kind in ("reset", "html", "empty")
      for after in (False, True)),
    {"kind": "status", "status": 429, "retry_after": 1},
    {"kind": "truncated"}, {"kind": "unknown_enum"},
    {"kind": "silence", "after": True},
)  # fmt: skip
HIDDEN = {"kind": "hide", "seconds": 0.3}  # of an order that was just taken


@dataclass
class Account:
    """The days of one account.

    Args:
        place: where it is kept.
        weights: of the last decision.
        strangers: client order ids of somebody else's orders.
        halved: names that were split, and not put together again.
    """

    place: Any
    weights: dict[str, Decimal] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    halved: set[str] = field(default_factory=set)

    def day(self, number: int, rng: Random) -> None:
        """Live through a day, from the events of the night to the books of the evening."""
        place = self.place
        self._night(rng)
        place.admin("PUT", "/clock", {"to": "next_open"})
        place.pass_time(1200)
        assert self._arm()
        decision = self._decision(number, rng)
        self._trade(decision, rng)
        self._evening(decision)

    def _night(self, rng: Random) -> None:
        """Let happen to the account what happens between two sessions."""
        place, held = self.place, sorted(one["symbol"] for one in self.place.get("/positions"))
        for symbol in place.symbols:
            place.admin("PUT", f"/assets/{symbol}", {})
        if rng.random() < 0.15:
            self._told("halted names")
            place.admin("PUT", f"/assets/{rng.choice(place.symbols)}", {"tradable": False})
        share = rng.choice(("1", "1", "1", "1", "0.5", "0.13"))
        place.admin("PATCH", "/terms", {"share_per_step": share})
        if rng.random() < 0.1:
            self._told("fees")
            place.admin("POST", "/fees", {"amount": "0.07"})
        if rng.random() < 0.03:
            self._told("cash moved")
            place.admin("POST", "/cash", {"amount": rng.choice(("250.5", "-100.25"))})
        if held and rng.random() < 0.2:
            self._told("dividends")
            place.admin("POST", "/dividends", {"symbol": rng.choice(held), "per_share": "0.255"})
        if held and rng.random() < 0.06:
            self._split(rng.choice(held))
        if rng.random() < 0.04:
            self._told("shares moved by somebody")
            place.admin("POST", "/shares", {"symbol": rng.choice(place.symbols), "qty": "3"})

    def _split(self, symbol: str) -> None:
        """Split the shares of a name, or put them together again after a split."""
        self._told("splits")
        ratio = "0.5" if symbol in self.halved else "2"
        self.halved ^= {symbol}
        self.place.admin("POST", "/splits", {"symbol": symbol, "ratio": ratio})

    def _arm(self) -> bool:
        """Do what a person does after a start or a trip: look, accept what was seen, and arm.

        Orders that are open, from before a crash, get ten minutes; then they are cancelled. One
        whose outcome stays unknown keeps trading halted until after its session.
        """
        place, codes = self.place, set[str]()
        for attempt in range(16):
            latch: Latch = place.surely("latch")
            if latch.armed:
                return True
            place.supervisor.step()
            if place.surely("reconcile").drifted and not place.get("/orders"):
                self._accept()
            try:
                verdict = place.ask("arm", place.account, place.surely("latch"), "a person")
            except ProcessLookupError:
                continue  # another gateway has started since: look again
            self._told("armed by a person" if verdict.allowed else "arming refused")
            if not verdict.allowed:
                codes = {one.code.name for one in verdict.violations}
                place.pass_time(60.0)
                place.surely("step")
                if attempt == 9:
                    self._told("orders cancelled by a person")
                    place.surely("kill", "what is open is cancelled", "a person")
        assert codes == {"kill_unverified"}
        self._told("sessions that stayed halted")
        return False

    def _accept(self) -> None:
        """Take the broker's books for ours, as a person does who knows the reason, and is patient.

        Nothing is taken while the broker does not answer; a day has three faults at most.
        """
        for _ in range(FAULTS_A_DAY):
            try:
                self.place.surely("accept", self.place.account, "a person", "looked into")
                break
            except AssertionError as error:
                if not str(error).startswith("Unavailable"):
                    raise
                self._told("books not accepted: the broker did not answer")
        else:
            self.place.surely("accept", self.place.account, "a person", "looked into")
        self._told("books accepted by a person")

    def _decision(self, number: int, rng: Random) -> Decision:
        """Return a decision of the last close: a walk of the weights."""
        place = self.place
        drawn = {name: Decimal(rng.randint(4, 8)) for name in rng.sample(place.symbols, 4)}
        whole = sum(drawn.values()) / Decimal("0.8")
        names = {*drawn, *self.weights}
        zero = Decimal(0)
        mixed = {
            name: (
                self.weights.get(name, zero) * Decimal("0.6")
                + drawn.get(name, zero) / whole * Decimal("0.4")
            ).quantize(Decimal("0.0001"))
            for name in sorted(names)
        }
        self.weights = {name: weight for name, weight in mixed.items() if weight >= CENT / 2}
        hours = self.place.exchange.hours
        now = self.place.exchange.now()
        today = hours.coming(now)
        half = Decimal("0.5")
        return Decision(
            id=f"{number:064x}",
            account=place.account,
            as_of=hours.between(today - timedelta(days=10), today - timedelta(days=1))[-1],
            expires_at=hours.times(today)[1],
            model_sha256=MODEL,
            weights=self.weights,
            agents={"one": (half, self.weights), "two": (half, self.weights)},
            body_sha256=f"{number + 10_000:064x}",
        )

    def _trade(self, decision: Decision, rng: Random) -> None:
        """Hand the decision over and follow it, with faults, strangers and a kill on the way."""
        place = self.place
        self._plan_faults(rng)
        killed = place.seen["kills"]
        stranger = rng.randrange(STEPS) if rng.random() < 0.05 else None
        timer = None
        if rng.random() < 0.5:
            place.end()
            place.start(rng.randint(1, POINTS))
            assert self._arm()
        else:
            timer = threading.Timer(rng.uniform(0.0, LONGEST_S), self._kill, (place.pid,))
            timer.start()
        place.supervisor.step()
        for step in range(STEPS):
            if step == stranger:
                self._stranger(rng)
            if step % 10 == 9:
                place.supervisor.step()
            try:
                if self._ended(decision):
                    break
                place.ask("step")
            except ProcessLookupError:
                if not self._arm():
                    break
                place.supervisor.step()
            place.pass_time(STEP_S)
        if timer is not None:
            timer.cancel()
            timer.join()
        if place.seen["kills"] == killed:  # the point lay behind the end of this day
            place.kill()

    def _ended(self, decision: Decision) -> bool:
        """Ask for the decision, again and again: it is the same one. Return whether it ended."""
        answer: Answer = self.place.ask("submit", decision, Mode.paper)
        return answer.state not in (DecisionState.accepted, DecisionState.received)

    def _plan_faults(self, rng: Random) -> None:
        for _ in range(rng.randint(1, FAULTS_A_DAY)):
            method, path = rng.choice(REQUESTS)
            fault = HIDDEN if method == "POST" and rng.random() < 0.2 else rng.choice(FAULTS)
            nth = rng.randint(1, 12)
            where = {"method": method, "path": path, "nth": nth}
            self.place.admin("POST", "/faults", {**where, **fault})

    def _stranger(self, rng: Random) -> None:
        """Let somebody else trade on the account."""
        self._told("orders of a stranger")
        order = {"symbol": rng.choice(self.place.symbols), "qty": "2", "side": "buy",
                 "type": "market", "time_in_force": "day"}  # fmt: skip
        found = self.place.admin("POST", "/orders", order)
        self.strangers.add(found["client_order_id"])

    def _kill(self, pid: int) -> None:
        if self.place.pid == pid and self.place.life is not None:
            self._told("kills by the clock")
            os.kill(pid, signal.SIGKILL)

    def _evening(self, decision: Decision) -> None:
        """After the close everything has ended, and both books are the same."""
        place = self.place
        hits = place.admin("GET", "/faults")
        place.seen["faults that hit"] += sum(one["hit"] for one in hits)
        place.admin("DELETE", "/faults")
        place.admin("PUT", "/clock", {"to": "next_close"})
        for _ in range(4):
            place.pass_time(600.0)
            place.surely("step")
        found = place.surely("reconcile")
        if found.drifted:
            # Shares that somebody moved: a person looks, and accepts what the broker has.
            assert not place.surely("latch").armed
            self._accept()
        ledger = open_ledger(place.made.control)
        try:
            self._require_equal_books(ledger, decision)
        finally:
            ledger.close()

    def _require_equal_books(self, ledger: Any, decision: Decision) -> None:
        place = self.place
        held = {one["symbol"]: Decimal(one["qty"]) for one in place.get("/positions")}
        assert ledger.positions() == held
        assert ledger.cash() == Decimal(place.get("/account")["cash"])
        stored = ledger.decision(decision.id)
        word = "none" if stored is None else stored.state.value
        reasons = "" if stored is None else ", ".join(stored.reasons)
        self._told(f"decisions {word} {reasons}".strip())
        assert stored is None or stored.state in (DecisionState.done, DecisionState.refused)
        session = self.place.exchange.hours.last_opened(self.place.exchange.now())
        ours = {one.client_order_id: one for one in ledger.orders(decision_id=decision.id)}
        listed = place.get(f"/orders?status=all&limit=500&after={session}T00:00:00Z")
        theirs = {one["client_order_id"]: one for one in listed}
        assert len(theirs) == len(listed)
        assert set(theirs) - set(ours) <= self.strangers
        for name, order in ours.items():
            assert order.state in TERMINAL, order
            place.seen[f"orders {order.state.value}"] += 1
            if name not in theirs:
                assert order.filled == 0, order
                assert order.state in (
                    OrderState.dropped, OrderState.refused, OrderState.expired
                ), order  # fmt: skip
            else:
                assert Decimal(theirs[name]["filled_qty"]) == order.filled, order
                assert Decimal(theirs[name]["qty"]) == order.quantity, order

    def _told(self, what: str) -> None:
        self.place.seen[what] += 1


@pytest.mark.timeout(3600)
def test_every_evening_ledger_and_exchange_hold_the_same(place: Any, soak: bool) -> None:
    days = SOAK_DAYS if soak else DAYS
    account, began = Account(place), time.monotonic()
    for number in range(1, days + 1):
        account.day(number, Random(f"{SEED} {number}"))
    place.end()
    found = place.surely("verify")
    assert found.ok, found.problems
    seen = place.seen
    assert seen["kills"] >= days
    least = days / 2 if soak else 1  # three days may be three bad ones
    assert seen["decisions done"] >= least and seen["orders filled"] >= least
    print(f"{days} days, seed {SEED}, {time.monotonic() - began:.0f} s: every evening equal")
    print(f"{found.records} audit records and {found.verdicts} verdicts hold")
    for what, count in sorted(seen.items()):
        print(f"  {count:6d}  {what}")
