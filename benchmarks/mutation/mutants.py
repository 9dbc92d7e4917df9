"""Every mutant of a module: one mistake at one place, as one changed statement of its top level."""

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.mutation.operators import Operator

_Statement = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake.

    Args:
        module: its name.
        within: the function, class or name whose statement holds it.
        line: of the place, from 1.
        kind: of the mistake.
        before: the source of the place.
        after: what stands there now.
        place: number of the statement of the module's top level that holds it.
        statement: what that statement is now.
    """

    module: str
    within: str
    line: int
    kind: str
    before: str
    after: str
    place: int
    statement: ast.stmt

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.kind}: {self.before} => {self.after}"


def mutants(module: str, source: str, operators: Sequence[Operator]) -> Iterator[Mutant]:
    """Yield the mutants of a module in the order of its lines.

    Args:
        module: its name.
        source: of it.
        operators: the mistakes to make.
    """
    for place, top in enumerate(ast.parse(source).body):
        if not isinstance(top, _Statement):
            continue
        nodes = list(ast.walk(top))
        seen = {ast.dump(top)}
        for number in sorted(_inner(top, nodes), key=lambda row: _line(nodes, row)):
            node = nodes[number]
            for kind, found in (pair for operator in operators for pair in operator(node)):
                changed = _replaced(top, number, found)
                if (text := ast.dump(changed)) in seen:  # two ways to the same mistake
                    continue
                seen.add(text)
                line = _line(nodes, number)
                shown = _text(node), _text(found)
                yield Mutant(module, _name(top), line, kind, *shown, place, changed)


def _inner(top: _Statement, nodes: Sequence[ast.AST]) -> Iterator[int]:
    """Yield the nodes in which a mistake can stand: bodies of functions, values of names."""
    if isinstance(top, ast.FunctionDef | ast.ClassDef):
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
        roots: list[ast.AST] = [line for function in functions for line in _body(function)]
    else:
        alias = top.value is None or isinstance(top.value, ast.Subscript)  # Callable[[A, B], C]
        roots = [] if alias or top.value is None else [top.value]
    inside = {id(node) for root in roots for node in ast.walk(root)}
    outside = {id(node) for each in nodes for part in _annotations(each) for node in ast.walk(part)}
    for number, node in enumerate(nodes):
        if id(node) in inside and id(node) not in outside:
            yield number


def _name(top: _Statement) -> str:
    if isinstance(top, ast.FunctionDef | ast.ClassDef):
        return top.name
    return ast.unparse(top.targets[0] if isinstance(top, ast.Assign) else top.target)


def _body(function: ast.FunctionDef) -> list[ast.stmt]:
    first = function.body[0]
    says = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.body[1:] if says else function.body


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, ast.FunctionDef):
        yield node.args
        yield from node.decorator_list
        if node.returns is not None:
            yield node.returns


def _replaced(top: _Statement, number: int, found: ast.AST) -> ast.stmt:
    """Return a copy of a statement with another node in the place of one."""
    changed = copy.deepcopy(top)
    wanted = list(ast.walk(changed))[number]
    new = copy.deepcopy(found)

    class Exchange(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is wanted else super().generic_visit(node)

    replaced = Exchange().visit(changed)
    assert isinstance(replaced, ast.stmt)
    return ast.fix_missing_locations(replaced)


def _line(nodes: Sequence[ast.AST], number: int) -> int:
    """Return a node's line, or that of its first part that has one."""
    for node in ast.walk(nodes[number]):
        line = getattr(node, "lineno", None)
        if line is not None:
            return int(line)
    return 0


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:87]}..."
