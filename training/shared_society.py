"""The society in Ray's object store: one copy of its market on each node, which all actors view.

Ray lets processes of a node share the memory of an array, but gives each its own copy of a tensor.
So the market goes into the store as arrays, and every process makes tensors of that memory. It is
the same memory for all of them: nobody may write there.
"""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.network_spec import NetworkSpec
from envs.batch import EnvSettings
from training.society import Society


@dataclass(frozen=True, slots=True)
class StoredSociety:
    """A society with the fields of its market by name, tensors as arrays."""

    market: dict[str, Any]
    mandates: tuple[Mandate, ...]
    settings: EnvSettings
    cash_rate: float
    network: NetworkSpec


def put(society: Society) -> "ray.ObjectRef[StoredSociety]":
    """Store a society, whose market is on the CPU."""
    market = {
        item.name: _array(getattr(society.market, item.name)) for item in fields(society.market)
    }
    reference: ray.ObjectRef[StoredSociety] = ray.put(
        StoredSociety(
            market, society.mandates, society.settings, society.cash_rate, society.network
        )
    )
    return reference


def get(reference: "ray.ObjectRef[StoredSociety]") -> Society:
    """Return a society over the memory of this node's store; its market must not be changed."""
    stored = ray.get(reference)
    market = MarketTensors(**{name: _tensor(value) for name, value in stored.market.items()})
    return Society(market, stored.mandates, stored.settings, stored.cash_rate, stored.network)


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(value)
