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
        within: the function, `Class.method` or name that it is in.
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
        places = _places(top, nodes)
        for number in sorted(places, key=lambda row: _line(nodes, row)):
            node = nodes[number]
            for kind, found in (pair for operator in operators for pair in operator(node)):
                changed = _replaced(top, number, found)
                if (text := ast.dump(changed)) in seen:  # two ways to the same mistake
                    continue
                seen.add(text)
                line = _line(nodes, number)
                shown = _text(node), _text(found)
                yield Mutant(module, places[number], line, kind, *shown, place, changed)


def _places(top: _Statement, nodes: Sequence[ast.AST]) -> dict[int, str]:
    """Return where a mistake can stand: in bodies of functions and values of names.

    Returns:
        Number of the node -> name of its function, `Class.method`, or of the value.
    """
    roots: dict[str, list[ast.AST]] = {}
    if isinstance(top, ast.ClassDef):
        for method in (part for part in top.body if isinstance(part, ast.FunctionDef)):
            roots[f"{top.name}.{method.name}"] = list(_body(method))
    elif isinstance(top, ast.FunctionDef):
        roots[top.name] = list(_body(top))
    elif top.value is not None and not isinstance(top.value, ast.Subscript):  # Callable[[A], B]
        target = top.targets[0] if isinstance(top, ast.Assign) else top.target
        roots[ast.unparse(target)] = [top.value]
    inside = {
        id(node): name for name, parts in roots.items() for root in parts for node in ast.walk(root)
    }
    outside = {id(node) for each in nodes for part in _annotations(each) for node in ast.walk(part)}
    return {
        number: inside[id(node)]
        for number, node in enumerate(nodes)
        if id(node) in inside and id(node) not in outside
    }


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
