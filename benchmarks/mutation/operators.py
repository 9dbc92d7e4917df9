"""The mistakes: each takes one node of a syntax tree and gives what could stand there by mistake.

Words for people are left alone, and so are annotations, decorators, default values and docstrings:
nothing that is checked depends on them. A mistake that could only raise a TypeError (a difference
of tuples) is not made, because any test at all would find it.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

Replacement = tuple[str, ast.AST]  # the kind of the mistake, and what stands there then
Operator = Callable[[ast.AST], Iterator[Replacement]]

_BOUNDARY: dict[type, type] = {ast.LtE: ast.Lt, ast.Lt: ast.LtE, ast.GtE: ast.Gt, ast.Gt: ast.GtE}
_OPPOSITE: dict[type, type] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BLIND: dict[type, type] = {ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE}
_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_NAMES = {"NAN": "ZERO", "ZERO": "ONE", "ONE": "ZERO"}
_CALLS = {
    "min": "max",
    "max": "min",
    "all": "any",
    "any": "all",
    "above": "below",
    "below": "above",
}
_TRANSPARENT = {"abs", "number", "largest", "round"}  # what they do to an argument is forgotten
_ATTRIBUTES = {"buy": "sell", "sell": "buy"}
_FINDERS = {"above", "below", "unless", "breach", "_all"}  # give tuples of violations
_FOUND = {"found", "own", "whole", "before"}  # hold them


def comparison(node: ast.AST) -> Iterator[Replacement]:
    """Move a limit by one value, or turn an equality, an identity or a membership around."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for kind, table in (("boundary", _BOUNDARY), ("opposite", _OPPOSITE)):
                if type(operator) in table:
                    changed = copy.deepcopy(node)
                    changed.ops[place] = table[type(operator)]()
                    yield kind, changed


def not_a_number(node: ast.AST) -> Iterator[Replacement]:
    """Write `a > b` for `not a <= b`, which lets what is no number pass; or forget the `not`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", node.operand
        inner = node.operand
        if isinstance(inner, ast.Compare) and len(inner.ops) == 1 and type(inner.ops[0]) in _BLIND:
            changed = copy.deepcopy(inner)
            changed.ops[0] = _BLIND[type(inner.ops[0])]()
            yield "blind", changed


def sign(node: ast.AST) -> Iterator[Replacement]:
    """Forget a minus."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand


def arithmetic(node: ast.AST) -> Iterator[Replacement]:
    """Take another operator, or leave one of two terms out."""
    if not isinstance(node, ast.BinOp):
        return
    if type(node.op) in _ARITHMETIC and not (_holds_found(node.left) or _holds_found(node.right)):
        changed = copy.deepcopy(node)
        changed.op = _ARITHMETIC[type(node.op)]()
        yield "arithmetic", changed
    if isinstance(node.op, ast.Add | ast.BitOr | ast.BitAnd):
        yield "left", node.left
        yield "right", node.right


def logic(node: ast.AST) -> Iterator[Replacement]:
    """Write `or` for `and`, or leave one of the conditions out."""
    if isinstance(node, ast.BoolOp):
        changed = copy.deepcopy(node)
        changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "logic", changed
        for place in range(len(node.values)):
            rest = [value for row, value in enumerate(node.values) if row != place]
            yield "condition", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def branch(node: ast.AST) -> Iterator[Replacement]:
    """Decide a condition once and for all."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        for value in (True, False):
            changed = copy.deepcopy(node)
            changed.test = ast.Constant(value)
            yield f"always {value}", changed
    if isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            kept = copy.deepcopy(node)
            del kept.ifs[place]
            yield "filter", kept


def constant(node: ast.AST) -> Iterator[Replacement]:
    """Take a neighbouring number, the other truth value, another name of a number."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "flag", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "number", ast.Constant(node.value + 1)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in _NAMES:
        yield "number", ast.Name(_NAMES[node.id], ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in _ATTRIBUTES:
        changed = copy.deepcopy(node)
        changed.attr = _ATTRIBUTES[node.attr]
        yield "side", changed


def call(node: ast.AST) -> Iterator[Replacement]:
    """Call the function beside the right one, or none."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return
    if node.func.id in _CALLS:
        changed = copy.deepcopy(node)
        changed.func = ast.Name(_CALLS[node.func.id], ast.Load())
        yield "call", changed
    if node.func.id in _TRANSPARENT:
        for argument in node.args[:2] if node.func.id == "largest" else node.args[:1]:
            yield "argument", argument


def element(node: ast.AST) -> Iterator[Replacement]:
    """Leave out one element of a display: one check of a list, one finding, one legal move."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set) and not (
        isinstance(node, ast.Tuple | ast.List) and not isinstance(node.ctx, ast.Load)
    ):
        for place in range(len(node.elts)):
            changed = copy.deepcopy(node)
            del changed.elts[place]
            empty = isinstance(changed, ast.Set) and not changed.elts
            yield "element", ast.Call(ast.Name("set", ast.Load()), [], []) if empty else changed


def statement(node: ast.AST) -> Iterator[Replacement]:
    """Leave a statement out, or take the other way out of a loop."""
    if isinstance(node, ast.Raise | ast.AugAssign) or _is_call(node) or _is_store(node):
        yield "statement", ast.Pass()
    elif isinstance(node, ast.Continue):
        yield "loop", ast.Break()
    elif isinstance(node, ast.Break):
        yield "loop", ast.Continue()


def limit_named(names: frozenset[str]) -> Operator:
    """Return the mistake that names no limit where a limit of these is named."""

    def unnamed(node: ast.AST) -> Iterator[Replacement]:
        if isinstance(node, ast.Constant) and node.value in names:
            yield "limit", ast.Constant("")

    return unnamed


def move_added(legal: Mapping[str, frozenset[str]]) -> Operator:
    """Return the mistake that allows one more move in a table `{_S.a: {_S.b, ...}, ...}`.

    Args:
        legal: that table: name of a state -> names of those that it may move to.
    """
    missing = [(one, other) for one in legal for other in legal if other not in legal[one]]

    def added(node: ast.AST) -> Iterator[Replacement]:
        if not isinstance(node, ast.Dict):
            return
        places = {key.attr: row for row, key in enumerate(node.keys) if _is_state(key, legal)}
        for one, other in missing if set(places) == set(legal) else ():
            changed = copy.deepcopy(node)
            key, moves = changed.keys[places[one]], changed.values[places[one]]
            assert isinstance(key, ast.Attribute)
            more = ast.Set([ast.Attribute(copy.deepcopy(key.value), other, ast.Load())])
            changed.values[places[one]] = ast.BinOp(moves, ast.BitOr(), more)
            yield f"move {one}->{other}", changed

    return added


OPERATORS: tuple[Operator, ...] = (
    comparison,
    not_a_number,
    sign,
    arithmetic,
    logic,
    branch,
    constant,
    call,
    element,
    statement,
)


def _holds_found(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FINDERS
    if isinstance(node, ast.BinOp):
        return _holds_found(node.left) or _holds_found(node.right)
    return isinstance(node, ast.Tuple) or (isinstance(node, ast.Name) and node.id in _FOUND)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and all(
        isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets
    )


def _is_state(node: ast.AST | None, states: Mapping[str, object]) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr in states
