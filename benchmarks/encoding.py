"""What it saves to encode a day once for all books that are held on it.

Both ways give the same mean actions and the same gradients (tests/training/test_loss.py). The plain
one encodes the market observation of every book, so its cost grows with replicas and agents; the
shared one encodes each distinct day, and only the few operations per book grow.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from benchmarks.measure import Result, interleaved
from training import columns
from training.loss import mean_actions
from training.seeds import generator_of
from training.society import Society, encode_days

BOOKS = (4, 8, 16, 32, 64)
Batch = Mapping[str, Tensor]


def run(
    society: Society, repeats: int, days: int = 64, books: Sequence[int] = BOOKS, seed: int = 0
) -> Result:
    """Time a forward and a backward pass of one policy, both ways, with more and more books a day.

    Args:
        society: its first policy's network and its market are used.
        repeats: timed runs of each.
        days: distinct ones in a batch.
        books: replicas x agents of one policy on each day, ascending.
        seed: of networks and books.
    """
    market, device = society.market, society.market.device
    network = next(iter(society.new_networks(seed).values())).to(device)
    works: dict[str, Callable[[], object]] = {}
    for count in books:
        batch = _batch(market, days, count, generator_of(seed, "books"))
        works |= {
            f"plain {count}": partial(_passes, partial(plain_mean_actions, network, market, batch)),
            f"shared {count}": partial(
                _passes, partial(mean_actions, network, market, batch, bfloat16=False)
            ),
            f"plain market {count}": partial(
                _passes, partial(_encode_each, network, market, batch)
            ),
            f"shared market {count}": partial(_passes, partial(_encode, network, market, batch)),
        }
    times = {name: timing.median for name, timing in interleaved(works, repeats).items()}
    gains = {count: times[f"plain {count}"] / times[f"shared {count}"] for count in books}

    def exponent(name: str) -> float:
        """Return the slope of log time over log books."""
        seconds = [times[f"{name} {count}"] for count in books]
        return round(float(np.polyfit(np.log(books), np.log(seconds), 1)[0]), 3)

    figures: dict[str, object] = {
        "gain": round(gains[books[-1]], 2),
        "market_exponent": exponent("shared market"),
        "plain_market_exponent": exponent("plain market"),
        "shared_exponent": exponent("shared"),
        "plain_exponent": exponent("plain"),
        "days": days,
        "books": books[-1],
        "assets": market.n_assets,
        "repeats": repeats,
    }
    names = ("plain", "shared", "plain market", "shared market")
    rows = tuple(
        (
            str(count),
            *(f"{1e3 * times[f'{name} {count}']:.2f}" for name in names),
            f"{gains[count]:.1f}",
        )
        for count in books
    )
    heads = tuple(f"{name}, ms" for name in names)
    return Result("encoding", figures, ("books a day", *heads, "gain"), rows)


def plain_mean_actions(network: PolicyNetwork, market: MarketTensors, batch: Batch) -> Tensor:
    """Return the mean actions (D, R, P, N + 1) with every book's own observation encoded."""
    investable = _each(market.investable, batch)
    position = batch[columns.BOOK_ASSET].movedim(1, -1)  # (D, R, P, N, B)
    return network.act(
        _encode_each(network, market, batch), position, batch[columns.BOOK], investable
    )


def _encode_each(network: PolicyNetwork, market: MarketTensors, batch: Batch) -> Tensor:
    """Return the encodings (D, R, P, N, H) of all books."""
    return network.encode(
        _each(market.asset_features, batch),
        _each(market.market_features, batch),
        _each(market.investable, batch),
    )


def _encode(network: PolicyNetwork, market: MarketTensors, batch: Batch) -> Tensor:
    """Return the members' scores (D, S, N) of the distinct days."""
    days = torch.unique(batch[columns.DAY])
    return encode_days(network, market, days, bfloat16=False).scores


def _each(values: Tensor, batch: Batch) -> Tensor:
    """Return (D, R, P, ...) the values (T, ...) of its day for every book, each a copy."""
    day = batch[columns.DAY]
    books = batch[columns.BOOK].shape[1:3]
    return values[day[:, None, None].expand(-1, *books)]


def _passes(forward: Callable[[], Tensor]) -> None:
    torch.autograd.backward(forward().square().mean())


def _batch(market: MarketTensors, days: int, books: int, generator: torch.Generator) -> Batch:
    """Return the columns that a mean action depends on, for books of one agent."""
    drawn = {
        columns.BOOK_ASSET: (days, BOOK_ASSET_FEATURES, books, 1, market.n_assets),
        columns.BOOK: (days, books, 1, BOOK_FEATURES),
        columns.ACTIONS: (days, books, 1, market.n_assets + 1),
    }
    batch = {name: torch.randn(shape, generator=generator) for name, shape in drawn.items()}
    batch[columns.DAY] = torch.randperm(market.n_sessions, generator=generator)[:days]
    return {name: column.to(market.device) for name, column in batch.items()}
