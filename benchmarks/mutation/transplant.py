"""Puts a mutant into a process in which everything is imported already.

Only the changed statement is run, in the name space of its module. A function keeps its identity
and gets the mutant's code, so whoever imported it gets the mistake too; another value takes the
place of the right one wherever it was imported to, and what was computed from it is computed anew.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from benchmarks.mutation.mutants import Mutant

_SHARED = (bool, int, str, type(None))  # the same object may stand for something else


def transplant(mutant: Mutant, root: Path) -> None:
    """Make a mistake in this process; there is no way back, so the process should be a fork.

    Args:
        mutant: to be made.
        root: of the repository: modules outside of it are left alone.
    """
    module = sys.modules[mutant.module]
    _run(mutant.statement, module, [one for one in _modules(root)])


def _run(statement: ast.stmt, module: ModuleType, everywhere: list[ModuleType]) -> None:
    space = vars(module)
    names = _names(statement)
    old = {name: space[name] for name in names}
    exec(compile(ast.Module([statement], []), f"<mutant of {module.__name__}>", "exec"), space)
    for name in names:
        new = space[name]
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            space[name] = old[name]
            _give_code(old[name], new)
        else:
            space[name] = old[name]
            _exchange(old[name], new, module, name, everywhere)


def _names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [_target(statement)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _target(statement: ast.stmt) -> ast.expr:
    assert isinstance(statement, ast.AnnAssign)
    return statement.target


def _give_code(old: object, new: object) -> None:
    """Let the functions of one object do what those of another do."""
    if isinstance(old, type):
        for name, part in vars(old).items():
            if name in vars(new) and not isinstance(part, type):
                _give_code(part, vars(new)[name])
        return
    for mine, other in zip(_functions(old), _functions(new), strict=True):
        mine.__code__ = other.__code__


def _functions(value: object) -> Iterator[FunctionType]:
    """Yield the plain functions within a method, a property or a wrapper."""
    if isinstance(value, FunctionType) and not hasattr(value, "__wrapped__"):
        yield value
    elif isinstance(value, property):
        for part in (value.fget, value.fset):
            yield from _functions(part)
    elif isinstance(value, classmethod | staticmethod):
        yield from _functions(value.__func__)
    elif hasattr(value, "__wrapped__"):
        yield from _functions(value.__wrapped__)


def _exchange(
    old: object, new: object, home: ModuleType, name: str, everywhere: list[ModuleType]
) -> None:
    """Put a value in another's place, and compute anew what modules computed from it."""
    for module in everywhere:
        names = [known for known, value in vars(module).items() if value is old]
        if isinstance(old, _SHARED) and module is not home:
            names = [known for known in names if known == name]
        elif isinstance(old, _SHARED):
            names = [name]
        for known in names:
            vars(module)[known] = new
        for statement in _computed_from(set(names), module):
            _run(statement, module, everywhere)


def _computed_from(names: set[str], module: ModuleType) -> Iterator[ast.stmt]:
    """Yield the assignments at a module's top level that use one of these names."""
    if not names or module.__file__ is None:
        return
    for statement in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            used = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
            if used & names and not names & set(_names(statement)):
                yield statement


def _modules(root: Path) -> Iterator[ModuleType]:
    """Yield the imported modules of the repository, its tests among them."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).is_relative_to(root) and "site-packages" not in file:
            yield module
