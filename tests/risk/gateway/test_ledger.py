"""What is written comes back exactly, only legal moves are made, and the chain knows them all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from market.errors import InputError
from risk.gateway import schema
from risk.gateway.audit import FileAnchor
from risk.gateway.ledger import Ledger
from risk.gateway.records import TERMINAL, Account, Decision, Fill, OrderState, Side
from risk.gateway.storage import LedgerFailed, StaleEpoch
from risk.gateway.stored import (
    LEGAL,
    DecisionState,
    StoredOrder,
)
from risk.gateway.totals import read_totals
from risk.gateway.verify import verify
from risk.gateway.writer import Conflict, Halted, Writer

NOW = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
TODAY = date(2024, 3, 5)
S = OrderState

decimals = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(min_value=1, max_value=10**28 - 1),
    st.integers(min_value=-30, max_value=10),
)
times = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1), timezones=st.just(UTC)
)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
on_both = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def decision(name: str = "d", **changes: object) -> Decision:
    plain = Decision(
        id=name,
        account="PA1",
        as_of=date(2024, 3, 4),
        expires_at=NOW + timedelta(minutes=15),
        model_sha256="m" * 64,
        weights={"A": Decimal("0.5")},
        agents={"one": (Decimal(1), {"A": Decimal("0.5")})},
        body_sha256=f"body of {name}",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def intent(name: str = "d-A", **changes: object) -> StoredOrder:
    plain = StoredOrder(
        client_order_id=name,
        decision_id="d",
        account="PA1",
        symbol="A",
        side=Side.buy,
        slice=0,
        quantity=Decimal("10"),
        limit_price=Decimal("9.99"),
        reference_price=Decimal("10"),
        state=S.intent,
        broker_id=None,
        filled=Decimal(0),
        average_price=None,
        created_at=NOW,
        sent_at=None,
        ended_at=None,
        detail=None,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def fill(name: str = "e1", **changes: object) -> Fill:
    plain = Fill(
        execution_id=name,
        broker_id="b1",
        client_order_id="d-A",
        symbol="A",
        side=Side.buy,
        quantity=Decimal("4"),
        price=Decimal("9.98"),
        commission=Decimal("0"),
        at=NOW,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def account(**changes: object) -> Account:
    plain = Account(
        id="PA1",
        paper=True,
        currency="USD",
        cash=Decimal("1000.10"),
        equity=Decimal("2000.20"),
        last_equity=Decimal("1999"),
        buying_power=Decimal("1000.10"),
        multiplier=Decimal(1),
        no_shorting=True,
        suspended=False,
        blocked=False,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class Undone(Exception):
    """Ends a transaction that a test does not want to keep."""


@contextmanager
def undone(ledger: Ledger, epoch: int) -> Iterator[Writer]:
    """Give a transaction that is rolled back, so that one database serves many examples."""
    with pytest.raises(Undone), ledger.writing(epoch) as writer:
        yield writer
        raise Undone


@pytest.fixture
def epoch(ledger: Ledger) -> int:
    """Return the epoch of an armed ledger with one decision and one intent."""
    found = ledger.acquire("gateway")
    with ledger.writing(found) as writer:
        writer.set_latch(True, "for tests", "person", NOW)
        writer.insert_decision(decision(), "paper", NOW)
        writer.insert_orders([intent()])
    return found


def walk(writer: Writer, states: list[OrderState], name: str = "d-A") -> None:
    for state in states:
        writer.set_order(name, state, at=NOW)


# What comes back


def test_the_migrations_build_exactly_the_tables_that_the_code_describes(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        found = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert found == []


def test_a_second_migration_changes_nothing(ledger: Ledger, epoch: int) -> None:
    ledger.migrate()
    assert ledger.order("d-A") == intent()
    assert ledger.epoch() == epoch


def test_a_newer_schema_is_refused_in_one_line_without_the_password(
    ledger: Ledger, epoch: int
) -> None:
    with ledger._storage.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match=r"newer version \(schema 9999\)") as caught:
        ledger.migrate()
    assert "\n" not in str(caught.value)


@given(
    quantity=decimals,
    price=st.none() | decimals,
    at=times,
    symbol=names,
    side=st.sampled_from(Side),
)
@on_both
def test_an_order_comes_back_as_it_was_given(
    ledger: Ledger,
    epoch: int,
    quantity: Decimal,
    price: Decimal | None,
    at: datetime,
    symbol: str,
    side: Side,
) -> None:
    given_order = intent(
        "x", quantity=quantity, limit_price=price, created_at=at, symbol=symbol, side=side, slice=3
    )
    with undone(ledger, epoch) as writer:
        writer.insert_orders([given_order])
        found = writer.order("x")
    assert found == given_order
    assert found is not None and format(found.quantity, "f") == format(quantity, "f")


@given(
    weights=st.dictionaries(names, decimals, max_size=4),
    share=decimals,
    at=times,
    name=names.filter(bool),
)
@on_both
def test_a_decision_comes_back_as_it_was_given(
    ledger: Ledger,
    epoch: int,
    weights: dict[str, Decimal],
    share: Decimal,
    at: datetime,
    name: str,
) -> None:
    asked = decision(f"x{name}", weights=weights, agents={name: (share, weights)}, expires_at=at)
    with undone(ledger, epoch) as writer:
        assert writer.insert_decision(asked, "live", at)
        found = writer.decision(asked.id)
    assert found is not None
    assert (found.decision, found.mode, found.received_at) == (asked, "live", at)
    assert (found.state, found.reasons) == (DecisionState.received, ())


@given(money=st.lists(decimals, min_size=5, max_size=5), flags=st.lists(st.booleans(), min_size=4))
@on_both
def test_an_account_comes_back_as_it_was_given(
    ledger: Ledger, epoch: int, money: list[Decimal], flags: list[bool]
) -> None:
    given_account = account(
        cash=-money[0],
        equity=money[1],
        last_equity=money[2],
        buying_power=money[3],
        multiplier=money[4],
        paper=flags[0],
        no_shorting=flags[1],
        suspended=flags[2],
        blocked=flags[3],
    )
    with undone(ledger, epoch) as writer:
        writer.add_account(given_account, NOW)
        found = writer.last_account()
    assert found is not None
    assert (found.account, found.at, found.peak_equity) == (given_account, NOW, money[1])


def test_no_float_naive_time_or_endless_number_gets_in(ledger: Ledger, epoch: int) -> None:
    bad: list[dict[str, object]] = [
        {"quantity": 10.0},
        {"quantity": Decimal("NaN")},
        {"quantity": Decimal("Infinity")},
        {"quantity": Decimal("1E+999999")},
        {"quantity": Decimal("1E-999999")},
        {"quantity": Decimal("0")},
        {"quantity": Decimal("-1")},
        {"limit_price": 9.99},
        {"created_at": datetime(2024, 3, 5)},
        {"state": S.working},
    ]
    for change in bad:
        with pytest.raises((ValueError, TypeError, ArithmeticError)), ledger.writing(epoch) as w:
            w.insert_orders([intent("x", symbol="X", **change)])
    assert ledger.order("x") is None


def test_words_that_a_database_cannot_hold_are_made_harmless(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_order("d-A", S.dropped, at=NOW, detail="\0 \ud800 'quoted' " + "x" * 9999)
    found = ledger.order("d-A")
    assert found is not None and found.detail is not None
    assert len(found.detail) == 500
    assert verify(ledger, ledger.anchor).ok


# Decisions and orders


def test_the_same_decision_again_is_known_and_another_body_is_a_conflict(
    ledger: Ledger, epoch: int
) -> None:
    with ledger.writing(epoch) as writer:
        assert writer.insert_decision(decision(), "paper", NOW + timedelta(hours=1)) is False
    found = ledger.decision("d")
    assert found is not None and found.received_at == NOW
    for other, mode in ((decision(body_sha256="other"), "paper"), (decision(), "live")):
        with pytest.raises(Conflict), ledger.writing(epoch) as writer:
            writer.insert_decision(other, mode, NOW)


def test_of_many_threads_with_one_decision_exactly_one_inserts_it(
    ledger: Ledger, epoch: int
) -> None:
    won: list[bool] = []

    def ask() -> None:
        with ledger.writing(epoch) as writer:
            won.append(writer.insert_decision(decision("twin"), "paper", NOW))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 15 + [True]


def test_a_leg_has_one_order_whatever_its_id(ledger: Ledger, epoch: int) -> None:
    with pytest.raises(ValueError, match=r"."), ledger.writing(epoch) as writer:
        writer.insert_orders([intent("another id")])
    with pytest.raises(ValueError, match=r"."), ledger.writing(epoch) as writer:
        writer.insert_orders([intent(symbol="B")])  # the id is taken
    with pytest.raises(ValueError, match=r"."), ledger.writing(epoch) as writer:
        writer.insert_orders([intent("x", decision_id="nobody's", symbol="B")])
    with ledger.writing(epoch) as writer:
        writer.insert_orders([intent("x", slice=1), intent("y", side=Side.sell)])
    assert [order.client_order_id for order in ledger.orders("d")] == ["d-A", "x", "y"]


PATHS = {  # how each state is reached
    S.intent: [],
    S.in_flight: [S.in_flight],
    S.unknown: [S.in_flight, S.unknown],
    S.refused: [S.in_flight, S.refused],
    S.working: [S.in_flight, S.working],
    S.filled: [S.in_flight, S.filled],
    S.partly_done: [S.in_flight, S.partly_done],
    S.cancelled: [S.in_flight, S.cancelled],
    S.expired: [S.in_flight, S.expired],
    S.dropped: [S.dropped],
}


def test_exactly_the_legal_moves_are_made(ledger: Ledger, epoch: int) -> None:
    for before, after in product(OrderState, OrderState):
        with undone(ledger, epoch) as writer:
            walk(writer, PATHS[before])
            if after in LEGAL[before]:
                writer.set_order("d-A", after, at=NOW)
                moved = writer.order("d-A")
                assert moved is not None and moved.state is after
                assert (moved.ended_at is not None) == (after in TERMINAL)
            else:
                with pytest.raises(ValueError, match="cannot go"):
                    writer.set_order("d-A", after, at=NOW)


def test_an_order_is_only_ever_sent_as_an_intent_or_unknown_and_never_unsent_after_that() -> None:
    assert {state for state in S if S.in_flight in LEGAL[state]} == {S.intent, S.unknown}
    assert {state for state in S if S.dropped in LEGAL[state]} == {S.intent}
    assert {state for state in S if S.intent in LEGAL[state]} == {S.in_flight}
    for ended in TERMINAL:
        assert not LEGAL[ended] & {S.intent, S.in_flight, S.unknown, S.dropped}


def test_what_was_ever_unknown_is_never_an_intent_again(ledger: Ledger, epoch: int) -> None:
    with undone(ledger, epoch) as writer:
        walk(writer, [S.in_flight, S.intent, S.in_flight, S.intent, S.dropped])
    with undone(ledger, epoch) as writer:
        walk(writer, [S.in_flight, S.unknown, S.in_flight])
        with pytest.raises(ValueError, match="in_flight->intent"):
            writer.set_order("d-A", S.intent, at=NOW)


def test_times_and_names_of_an_order_are_kept_from_their_first_mention(
    ledger: Ledger, epoch: int
) -> None:
    later = NOW + timedelta(seconds=9)
    with ledger.writing(epoch) as writer:
        writer.set_order("d-A", S.in_flight, at=NOW)
        writer.set_order("d-A", S.unknown, at=NOW, detail="silence")
        writer.set_order("d-A", S.in_flight, at=later)
        writer.set_order("d-A", S.working, at=later, broker_id="b1")
        with pytest.raises(ValueError, match="b1, not b2"):
            writer.set_order("d-A", S.working, at=later, broker_id="b2")
        writer.set_order("d-A", S.cancelled, at=later)
        writer.set_order("d-A", S.partly_done, at=later + timedelta(seconds=9))
    found = ledger.order("d-A")
    assert found is not None
    assert (found.sent_at, found.ended_at) == (NOW, later)
    assert (found.broker_id, found.detail) == ("b1", "silence")


@pytest.mark.parametrize("armed_before", [False, True])
def test_no_order_goes_in_flight_unless_the_latch_is_armed(
    ledger: Ledger, epoch: int, armed_before: bool
) -> None:
    if armed_before:
        with ledger.writing(epoch) as writer:
            walk(writer, [S.in_flight, S.unknown])
    ledger.trip("loss", "supervisor", NOW)
    with pytest.raises(Halted), ledger.writing(epoch) as writer:
        writer.set_order("d-A", S.in_flight, at=NOW)
    with ledger.writing(epoch) as writer:  # what the broker says is booked nevertheless
        writer.set_order("d-A", S.working, at=NOW)


def test_decisions_end_once(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_decision("d", DecisionState.refused, ["stale", "size"])
    found = ledger.decision("d")
    assert found is not None
    assert (found.state, found.reasons) == (DecisionState.refused, ("stale", "size"))
    for state in DecisionState:
        with pytest.raises(ValueError, match="cannot go"), ledger.writing(epoch) as writer:
            writer.set_decision("d", state)
    with pytest.raises(ValueError, match="unknown"), ledger.writing(epoch) as writer:
        writer.set_decision("nobody's", DecisionState.refused)


# Fills


@given(
    parts=st.lists(
        st.tuples(
            st.decimals(min_value="0.001", max_value="1000", places=3),
            st.decimals(min_value="0.01", max_value="1000", places=2),
        ),
        min_size=1,
        max_size=6,
    ),
    order=st.randoms(use_true_random=False),
)
@on_both
def test_fills_sum_up_once_each_in_any_order_and_however_often_they_are_told(
    ledger: Ledger, epoch: int, parts: list[tuple[Decimal, Decimal]], order: object
) -> None:
    fills = [fill(f"e{k}", quantity=q, price=p) for k, (q, p) in enumerate(parts)]
    told = fills + fills
    order.shuffle(told)  # type: ignore[attr-defined]
    with undone(ledger, epoch) as writer:
        assert sum(writer.add_fill(one) for one in told) == len(fills)
        found = writer.order("d-A")
        assert sorted(writer.fills(), key=lambda one: int(one.execution_id[1:])) == fills
    shares = sum(q for q, _ in parts)
    assert found is not None and found.average_price is not None
    assert found.filled == shares
    exact = sum(q * p for q, p in parts) / shares
    assert abs(found.average_price - exact) <= Decimal("0.000000005")


def test_a_fill_that_contradicts_is_a_conflict_and_changes_nothing(
    ledger: Ledger, epoch: int
) -> None:
    with ledger.writing(epoch) as writer:
        assert writer.add_fill(fill())
    for other in (
        fill(quantity=Decimal(5)),
        fill("e2", symbol="B"),
        fill("e2", side=Side.sell),
    ):
        with pytest.raises(Conflict), ledger.writing(epoch) as writer:
            writer.add_fill(other)
    for other in (
        fill("e2", quantity=Decimal(0)),
        fill("e2", price=Decimal(-1)),
        fill("e2", commission=Decimal(-1)),
    ):
        with pytest.raises(ValueError, match="impossible"), ledger.writing(epoch) as writer:
            writer.add_fill(other)
    assert ledger.fills() == [fill()]


def test_a_stranger_s_fill_is_kept(ledger: Ledger, epoch: int) -> None:
    late = NOW + timedelta(seconds=1)
    with ledger.writing(epoch) as writer:
        assert writer.add_fill(fill("s1", client_order_id=None))
        assert writer.add_fill(fill("s2", client_order_id="foreign", at=late))
    assert [one.execution_id for one in ledger.fills(after=NOW)] == ["s2"]
    assert len(ledger.fills()) == 2


# Everything else that is kept


def test_positions_are_replaced_as_a_whole(ledger: Ledger, epoch: int) -> None:
    for held in ({"A": Decimal("1.5"), "B": Decimal(-2)}, {"C": Decimal(3)}, {}):
        with ledger.writing(epoch) as writer:
            writer.set_positions({**held, "zero": Decimal(0)})
        assert ledger.positions() == held
    assert verify(ledger, ledger.anchor).ok


def test_the_peak_is_the_highest_equity_so_far(ledger: Ledger, epoch: int) -> None:
    for equity in ("100", "90", "120.5", "110"):
        with ledger.writing(epoch) as writer:
            writer.add_account(account(equity=Decimal(equity)), NOW)
    assert [str(found.peak_equity) for found in ledger.accounts(4)] == [
        "120.5",
        "120.5",
        "100",
        "100",
    ]


def test_limits_have_every_version_once_and_in_order(ledger: Ledger, epoch: int) -> None:
    assert ledger.limits() is None
    with ledger.writing(epoch) as writer:
        writer.put_limits(1, '{"max":"1"}', "person", NOW)
    for wrong in (1, 3, 0):
        with pytest.raises(ValueError, match="does not follow"), ledger.writing(epoch) as writer:
            writer.put_limits(wrong, "{}", "person", NOW)
    with pytest.raises(ValueError, match="Expecting"), ledger.writing(epoch) as writer:
        writer.put_limits(2, "{", "person", NOW)
    with ledger.writing(epoch) as writer:
        writer.put_limits(2, "{}", "other", NOW)
    found = ledger.limits()
    assert found is not None and (found.version, found.actor) == (2, "other")
    assert [one.version for one in ledger.limits_history()] == [1, 2]


def test_regimes_performance_and_rebalances_come_back(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_regime(TODAY, "calm")
        writer.set_regime(TODAY, "stormy")
        writer.add_performance("balanced", TODAY, "stormy", Decimal("-0.0123"))
        writer.log_rebalance(TODAY, "d", {"carried": {"A": Decimal("1.0")}}, NOW)
        writer.log_rebalance(TODAY, None, {}, NOW)
    assert ledger.regime(TODAY) == "stormy"
    assert ledger.regime(TODAY + timedelta(days=1)) is None
    (day,) = ledger.performance("balanced")
    assert (day.day, day.regime, day.returns) == (TODAY, "stormy", Decimal("-0.0123"))
    first, second = ledger.rebalances(TODAY)
    assert (first.body, first.decision_id) == ('{"carried":{"A":"1.0"}}', "d")
    assert second.decision_id is None
    assert verify(ledger, ledger.anchor).ok


def test_a_day_counts_parents_slices_and_worst_case_notional(ledger: Ledger, epoch: int) -> None:
    orders = [
        intent("s1", symbol="B", slice=1, quantity=Decimal(1)),
        intent("s2", symbol="B", slice=2, quantity=Decimal(2)),
        intent("sell", side=Side.sell, limit_price=None),
        intent("gone", symbol="C"),
        intent("no", symbol="D"),
        intent("part", symbol="E"),
    ]
    with ledger.writing(epoch) as writer:
        writer.insert_orders(orders)
        walk(writer, [S.dropped], "gone")
        walk(writer, [S.in_flight, S.refused], "no")
        walk(writer, [S.in_flight, S.working], "part")
        writer.add_fill(fill(client_order_id="part", symbol="E", price=Decimal("9.5")))
        writer.set_order("part", S.cancelled, at=NOW)
        writer.insert_decision(decision("bad"), "paper", NOW)
        writer.set_decision("bad", DecisionState.refused)
    totals = read_totals(ledger, NOW, TODAY, None).day
    assert (totals.orders, totals.slices, totals.refused_decisions) == (5, 6, 1)
    # 13 shares at their limit, 10 without one at the reference, 4 that were filled.
    expected = 13 * Decimal("9.99") + 100 + 4 * Decimal("9.5")
    assert totals.notional == expected
    for days, week in ((-1, 0), (6, expected), (7, 0)):
        later = timedelta(days=days)
        assert read_totals(ledger, NOW, TODAY + later, None).week_notional == week


def test_a_rehearsal_is_neither_a_failure_nor_what_the_next_weights_move_from(
    ledger: Ledger, epoch: int
) -> None:
    with ledger.writing(epoch) as writer:
        followed = decision("followed", weights={"B": Decimal("0.1")})
        writer.insert_decision(followed, "paper", NOW)
        writer.set_decision("followed", DecisionState.accepted)
        rehearsed = decision("rehearsed", weights={"C": Decimal("0.9")})
        writer.insert_decision(rehearsed, "dry_run", NOW + timedelta(seconds=1))
        writer.set_decision("rehearsed", DecisionState.accepted)
        writer.insert_decision(decision("no"), "paper", NOW + timedelta(seconds=2))
        writer.set_decision("no", DecisionState.refused)
        writer.insert_decision(decision("trial"), "dry_run", NOW + timedelta(seconds=3))
        writer.set_decision("trial", DecisionState.refused)
    found = read_totals(ledger, NOW, TODAY, "rehearsed")
    assert (found.failures, found.last_weights) == (1, {"B": Decimal("0.1")})
    assert found.decision is not None and found.decision.mode == "dry_run"
    ninth, tenth = (read_totals(ledger, NOW, TODAY + timedelta(days=d), None) for d in (9, 10))
    assert (ninth.failures, ninth.last_weights) == (0, {"B": Decimal("0.1")})
    assert (tenth.failures, tenth.last_weights) == (0, {})


def test_a_session_is_new_york_s_date(ledger: Ledger, epoch: int) -> None:
    midnight = datetime(2024, 3, 6, 4, 59, 59, tzinfo=UTC)  # one second before, in New York
    with ledger.writing(epoch) as writer:
        writer.insert_decision(decision("late"), "paper", midnight)
        writer.insert_decision(decision("next"), "paper", midnight + timedelta(seconds=1))
    assert [found.decision.id for found in ledger.decisions(TODAY)] == ["d", "late"]


# Transactions and epochs


def test_an_exception_anywhere_leaves_nothing(ledger: Ledger, epoch: int) -> None:
    before = verify(ledger, ledger.anchor).records
    with pytest.raises(Undone), ledger.writing(epoch) as writer:
        writer.insert_decision(decision("x"), "paper", NOW)
        writer.set_positions({"A": Decimal(1)})
        writer.audit("note", "test", {})
        raise Undone
    assert ledger.decision("x") is None
    assert ledger.positions() == {}
    found = verify(ledger, ledger.anchor)
    assert (found.problems, found.records) == ((), before)


def test_a_stale_epoch_writes_nothing_and_a_trip_needs_none(ledger: Ledger, epoch: int) -> None:
    newer = ledger.acquire("gateway, started again")
    assert newer == epoch + 1 == ledger.epoch()
    for stale in (epoch, newer + 1, 0):
        with pytest.raises(StaleEpoch), ledger.writing(stale) as writer:
            pytest.fail(f"{writer} was given")
    ledger.trip("by hand", "person", NOW)
    assert ledger.latch().tripped


def test_readers_do_not_wait_for_a_writer(ledger: Ledger, epoch: int) -> None:
    with ledger.writing(epoch) as writer:
        writer.set_positions({"A": Decimal(1)})
        assert ledger.positions() == {}
        assert ledger.order("d-A") == intent()
        assert writer.positions() == {"A": Decimal(1)}
    assert ledger.positions() == {"A": Decimal(1)}


def test_a_reader_cannot_write(ledger: Ledger, epoch: int) -> None:
    with pytest.raises(LedgerFailed), ledger.reading() as connection:
        connection.execute(text("DELETE FROM orders"))
    assert ledger.order("d-A") == intent()


def test_a_writer_inside_a_writer_of_the_same_thread_is_refused_not_waited_for_ever(
    ledger: Ledger, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("risk.gateway.ledger.PATIENCE_S", 0.1)
    with ledger.writing(epoch), pytest.raises(LedgerFailed, match="locked"):
        ledger.trip("inside", "test", NOW)


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"],
)
def test_an_address_that_cannot_hold_a_ledger_is_refused(address: str, anchor: FileAnchor) -> None:
    with pytest.raises(InputError):
        Ledger(address, anchor)


def test_no_message_shows_the_password(anchor: FileAnchor) -> None:
    ledger = Ledger("postgresql://me:secret@127.0.0.1:1/none", anchor)
    with pytest.raises(LedgerFailed) as caught:
        ledger.positions()
    assert "secret" not in str(caught.value) + ledger.place
    assert "\n" not in str(caught.value)


def test_a_ledger_that_was_never_migrated_fails_closed(url: str, anchor: FileAnchor) -> None:
    ledger = Ledger(url, anchor)
    with pytest.raises(LedgerFailed):
        ledger.latch()
    with pytest.raises(LedgerFailed):
        ledger.acquire("gateway")
    ledger.close()
