"""Where compiled code keeps intermediate values.

Compiled loops run along the environments, however few assets there are, so in compiled code
environments are innermost in memory: tensors keep the axes (E, A, N) and have the strides of
(N, A, E). The eager operations prefer the order of the axes and are left alone.
"""

import importlib
import os
import shutil
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

from market.errors import InputError

VERSIONS = 64  # of one compiled function

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Return the function compiled as one graph for the shapes of each call.

    Raises:
        InputError: if there is no C++ compiler; a GPU's code needs one as well.
    """
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise InputError("env.compile=true needs a C++ compiler (g++), and none was found")
    importlib.import_module("torch._inductor.inductor_prims")  # defines what `settled` calls
    # Every pass of a training steps an environment of its own, and each is a version to keep.
    config = importlib.import_module("torch._dynamo").config
    config.recompile_limit = max(config.recompile_limit, VERSIONS)
    return cast(Function, torch.compile(function, dynamic=False, fullgraph=True))


def environments_inside(values: Tensor) -> Tensor:
    """Return equal values with the first axis innermost in memory."""
    reverse = tuple(reversed(range(values.ndim)))
    return values.permute(reverse).contiguous().permute(reverse)


def settled(values: Tensor) -> Tensor:
    """Return the values; where code is being compiled, have them computed once and kept.

    Without it the compiler computes them again, division by division, in every loop that needs
    them, and picks an order of the axes for each.
    """
    if not torch.compiler.is_compiling():
        return values
    strides, stride = [], 1
    for size in values.shape:
        strides.append(stride)
        stride *= size
    result: Tensor = torch.ops.prims.inductor_force_stride_order.default(values, strides)
    return result


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors of one shape side by side along a new last axis."""
    if not torch.compiler.is_compiling():
        return torch.stack(tuple(parts), dim=-1)
    # A stack would be written part by part and then copied into its place.
    place = torch.arange(len(parts), device=parts[0].device)
    result = parts[-1].unsqueeze(-1)
    for index, part in enumerate(parts[:-1]):
        result = torch.where(place == index, part.unsqueeze(-1), result)
    return settled(result)
