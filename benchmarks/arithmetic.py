"""Count what a piece of torch code does: arithmetic operations, and bytes if no two are fused."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Operators that only make, move or round numbers.
MAKES = {"arange", "empty", "empty_like", "full", "full_like", "new_empty", "new_empty_strided"}
MAKES |= {
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
    "new_zeros",
    "fill_",
    "zero_",
    "scalar_tensor",
}
MAKES |= {"randn", "randperm", "randint", "uniform_", "normal_", "lift_fresh"}
MOVES = {"_to_copy", "_unsafe_view", "cat", "clone", "constant_pad_nd", "copy_", "detach", "stack"}
MOVES |= {"index", "index_select", "gather", "index_put_", "scatter", "slice_backward"}
MOVES |= {"select_backward", "_local_scalar_dense"}
GATHERS = {"index", "index_select", "gather"}


@dataclass(frozen=True, slots=True)
class Count:
    """What was done."""

    double: int  # arithmetic operations in float64: a multiply-add is two, an exponential one
    other: int  # likewise in anything else
    bytes: int  # read and written, with every operator going to memory for itself


def count(work: Callable[[], object]) -> Count:
    """Run some work once and count it.

    Matrix products count as torch's own FLOP formulas say; any other operator that computes counts
    one operation for each element of its largest operand.
    """
    with _Counter() as counter:
        work()
    return Count(counter.double, counter.other, counter.bytes)


def tensors(*values: object) -> Iterator[Tensor]:
    """Yield the tensors in some values: in mappings and dataclasses too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from tensors(*value.values())
        elif is_dataclass(value):
            yield from tensors(*(getattr(value, item.name) for item in fields(value)))


def nbytes(*values: object) -> int:
    """Return the bytes of all tensors in some values, each counted once."""
    once = {tensor.data_ptr(): tensor.nbytes for tensor in tensors(*values)}
    return sum(once.values())


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator on its way to the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.double = 0
        self.other = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run one operator and count it."""
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        name, formula = func.overloadpacket.__name__, flop_registry.get(func.overloadpacket)
        done = 0
        if formula is not None:
            done = formula(*args, **(kwargs or {}), out_val=out)
        elif name not in MAKES | MOVES:
            done = max((tensor.numel() for tensor in read + written), default=0)
        if any(tensor.dtype == torch.float64 for tensor in read + written):
            self.double += done
        else:
            self.other += done
        # A gather reads the rows that it returns, not the table.
        inputs = written + read[1:] if name in GATHERS else read
        self.bytes += sum(tensor.nbytes for tensor in inputs + written)
        return out
