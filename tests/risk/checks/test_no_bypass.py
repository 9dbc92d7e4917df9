"""Control 40: there is no way around the checks, and a way that is put in is found."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from risk.checks import decision, gate, order, portfolio

ROOT = Path(__file__).parents[3]
DECIDES = ("risk/checks/*.py", "risk/gateway/*.py", "risk/access/*.py", "cli/gateway*.py",
           "serving/rebalance*.py", "serving/gateway_client.py", "brokers/alpaca*.py")  # fmt: skip
WORDS = {"bypass", "bypassed", "disable", "disabled", "force", "forced", "ignore", "ignored",
         "insecure", "nocheck", "override", "overridden", "skip", "skipped", "trusted", "unchecked",
         "unsafe", "whitelist"}  # fmt: skip
INNOCENT = {
    "skip", "_SKIP",  # the effect that leaves a name out of a basket
    "url_override",  # how alpaca-py names the address
    "ignore",  # what NumPy is told of divisions by zero
}  # fmt: skip
IN_FORCE = "in_force"  # of limits, and of an order's time
PAIRS = {
    ("no", "check"),
    ("no", "checks"),
    ("without", "checks"),
    ("allow", "all"),
    ("allow", "any"),
}


def names(source: str) -> Iterator[str]:
    """Yield every identifier of a source, and every text that could be the key of a switch."""
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (node.value,) if node.value.replace("-", "_").isidentifier() else ()


def ways_around(source: str) -> list[str]:
    """Return the names that sound like a way around."""
    found = []
    for name in names(source):
        plain = name.replace("-", "_").lower().replace(IN_FORCE, "")
        parts = plain.strip("_").split("_")
        paired = PAIRS & set(pairwise(parts))
        if (WORDS & set(parts) or paired) and name not in INNOCENT:
            found.append(name)
    return found


def checks_defined(source: str) -> set[str]:
    """Return the public functions that take a state and give what they find."""
    return {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and ast.unparse(node.returns) == "Found"
        and {"state", "_state"} & {argument.arg for argument in node.args.args}
    }


def sends(source: str) -> bool:
    """Return whether a source hands an order to a broker or to a broker's client."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in {"submit_order", "replace_order_by_id", "close_position"}
            or (node.func.attr == "submit" and "broker" in ast.unparse(node.func.value).lower())
            or (
                node.func.attr == "post"
                and [ast.unparse(arg) for arg in node.args[:1]] == ["'/orders'"]
            )
        )
        for node in ast.walk(ast.parse(source))
    )


def files(*patterns: str) -> list[Path]:
    found = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    assert len(found) >= len(patterns)
    return found


def test_no_name_of_what_decides_sounds_like_a_way_around() -> None:
    found = {path.name: ways_around(path.read_text()) for path in files(*DECIDES)}
    assert len(found) > 40
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize(
    "source",
    [
        "def judge_order(state, order, limits, skip_checks=False): ...",
        "FORCE = True",
        "if settings.bypass: pass",
        "import os\nif os.environ.get('TERCET_DISABLE_LIMITS'): pass",
        "def send(order, *, unchecked: bool): ...",
        "verdict = judge(state) if not ignore_limits else None",
        "allow_all = True",
        "conf = {'no-checks': 1}",
    ],
)
def test_a_way_around_that_is_put_in_is_found(source: str) -> None:
    assert ways_around(source)


def test_every_check_that_is_written_is_in_a_list_that_is_judged() -> None:
    """A check that nobody calls is a way around, too."""
    listed = {
        order: order.ORDER_CHECKS,
        decision: decision.DECISION_CHECKS,
        gate: gate.PERMISSION + gate.HEALTH + gate.SESSION + gate.ACCOUNT + gate.SENDING,
        portfolio: portfolio.BOOK_CHECKS,
    }
    called = {"no_halt_file", "confirmed_losses", "orders_are_few", "basket_is_consistent"}
    for module, checks in listed.items():
        assert module.__file__ is not None
        defined = checks_defined(Path(module.__file__).read_text())
        assert defined, module
        assert defined - {check.__name__ for check in checks} <= called, module
        assert len({check.__name__ for check in checks}) == len(checks)
    judge = (ROOT / "risk" / "checks" / "judge.py").read_text()
    for name in called:
        assert judge.count(name) >= 2, f"{name} is imported and used"


def test_checks_read_nothing_but_their_arguments() -> None:
    """No clock, no file, no environment, no randomness: a verdict can be replayed."""
    for path in files("risk/checks/*.py"):
        tree = ast.parse(path.read_text())
        imported = {
            alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in (
                node.names
                if isinstance(node, ast.Import)
                else [ast.alias((node.module or "").split(".")[0])]
            )
        }
        allowed = {"risk", "collections", "contextlib", "dataclasses", "datetime", "decimal",
                   "functools", "itertools", "re"}  # fmt: skip
        assert imported <= allowed, path
        calls = {
            ast.unparse(node.func).split(".")[-1]
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        assert not calls & {"now", "utcnow", "today", "open", "getenv", "print", "eval", "exec"}, (
            path
        )


def test_orders_leave_by_one_door() -> None:
    packages = (
        "risk",
        "brokers",
        "cli",
        "serving",
        "agents",
        "training",
        "envs",
        "evaluation",
        "market",
    )
    doors = {
        str(path.relative_to(ROOT))
        for path in files(*(f"{name}/**/*.py" for name in packages))
        if not path.is_relative_to(ROOT / "brokers" / "exchange") and sends(path.read_text())
    }
    assert doors == {"risk/gateway/courier.py", "brokers/alpaca.py"}
    for sending in (
        "self._broker.submit(order)",
        "api.submit_order(order)",
        "api.post('/orders', b)",
    ):
        assert sends(sending)
    assert not sends("gateway.submit(decision, mode)")
