"""Policies in ONNX, for programs without torch: the mean action of what a policy sees.

The inputs are the fields of `agents.observation.Blocks`, float32, with a batch and any number of
names; the output is the action. Limits, band and tilt are no part of it: see `ActionMap`.

Third parties of the extra `tercet[onnx]`: only what exports a policy imports this module.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.artefact import Artefact
from agents.networks import PolicyNetwork
from agents.observation import Blocks
from market.errors import InputError

TOLERANCE = 1e-5  # of an action in (-1, 1): rounding in another order of the sums
OUTPUT = "action"  # (batch, names + 1): a score per name, then the exposure

Acting = Callable[[Blocks], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Exported:
    """A policy in ONNX.

    Args:
        model: bytes of the file.
        act: runs it.
        max_abs_diff: from torch's actions, on what was seen.
    """

    model: bytes
    act: Acting
    max_abs_diff: float


def export(trained: Artefact, seen: Mapping[str, Blocks]) -> dict[str, Exported]:
    """Return every policy of an artefact in ONNX, each compared with torch.

    Args:
        trained: the artefact.
        seen: by policy, what it is compared on; with a leading batch, of at least one.

    Raises:
        InputError: naming the policy that does not act as in torch.
    """
    found = {}
    for policy, network in trained.networks.items():
        model = to_onnx(trained, policy)
        act = acting(model)
        distance = difference(network, act, seen[policy])
        if not distance <= TOLERANCE:
            raise InputError(
                f"policy {policy} in ONNX acts {distance:.2g} beside torch, "
                f"more than {TOLERANCE:g}: nothing was exported"
            )
        found[policy] = Exported(model, act, distance)
    return found


def to_onnx(trained: Artefact, policy: str) -> bytes:
    """Return the ONNX model of a policy, with its origin in the model's metadata."""
    network, features = trained.networks[policy], trained.manifest.features
    example = _example(network)
    with _quiet():
        program = torch.onnx.export(
            _MeanAction(network).eval(),
            tuple(example),
            dynamo=True,
            verbose=False,
            input_names=list(Blocks._fields),
            output_names=[OUTPUT],
            dynamic_shapes=tuple(_axes(name) for name in Blocks._fields),
        )
    assert program is not None, "the exporter writes no file of its own"
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    onnx.helper.set_model_props(
        model,
        {
            "artefact_sha256": trained.sha256,
            "policy": policy,
            "asset_features": json.dumps(features.asset_names),
            "market_features": json.dumps(features.market_names),
            "clip": repr(features.clip),
        },
    )
    content: bytes = model.SerializeToString()
    return content


def acting(model: bytes) -> Acting:
    """Return a function that runs a model with onnxruntime, on as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def act(seen: Blocks) -> NDArray[np.float32]:
        """Return the actions (batch, N + 1) of what is seen, with a leading batch."""
        arrays = {name: block.numpy() for name, block in seen._asdict().items()}
        action: NDArray[np.float32] = session.run([OUTPUT], arrays)[0]
        return action

    return act


def difference(network: PolicyNetwork, act: Acting, seen: Blocks) -> float:
    """Return the largest difference between the actions of a network and of its export.

    They are compared on all that is seen, on the first of it alone, and with half of the names:
    batch and universe may have any size.

    Args:
        network: that was exported.
        act: its export.
        seen: with a leading batch, of at least one.
    """
    half = (seen.investable.shape[-1] + 1) // 2
    fewer = seen._replace(
        asset_features=seen.asset_features[:, :half],
        investable=seen.investable[:, :half],
        book_asset=seen.book_asset[:, :half],
    )
    parts = (seen, Blocks(*(block[:1] for block in seen)), fewer)
    # NumPy's maximum hands a NaN on; Python's would lose it.
    return float(np.max([np.abs(act(part) - mean(network, part)).max() for part in parts]))


def mean(network: PolicyNetwork, seen: Blocks) -> NDArray[np.float32]:
    """Return the actions (batch, N + 1) of a network, by torch."""
    with torch.inference_mode():
        action: NDArray[np.float32] = _MeanAction(network)(*seen).numpy()
    return action


class _MeanAction(nn.Module):
    """A network as a function of the blocks of an observation."""

    def __init__(self, network: PolicyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        asset_features: Tensor,
        market_features: Tensor,
        investable: Tensor,
        book_asset: Tensor,
        book: Tensor,
    ) -> Tensor:
        """Return the mean action (batch, N + 1)."""
        encoding = self.network.encode(asset_features, market_features, investable)
        return self.network.act(encoding, book_asset, book, investable)


def _example(network: PolicyNetwork) -> Blocks:
    """Return blocks to trace with: sizes that differ from each other, so that none is confused."""
    spec, batch, names = network.spec, 3, 7
    return Blocks(
        torch.zeros(batch, names, spec.asset_features),
        torch.zeros(batch, spec.market_features),
        torch.ones(batch, names),
        torch.zeros(batch, names, spec.book_asset),
        torch.zeros(batch, spec.book),
    )


def _axes(name: str) -> Mapping[int, str]:
    """Return the names of a block's axes that may have any length."""
    by_name = name in ("asset_features", "investable", "book_asset")
    return {0: "batch", 1: "names"} if by_name else {0: "batch"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about operators of other libraries to itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
