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
from training.society import Society

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
    batches = {count: _batch(market, days, count, generator_of(seed, "books")) for count in books}

    def seconds(actions: Callable[[PolicyNetwork, MarketTensors, Batch], Tensor]) -> list[float]:
        """Return the medians; what one kind frees would slow down the other beside it."""
        works = {
            str(count): partial(_passes, partial(actions, network, market, batch))
            for count, batch in batches.items()
        }
        return [timing.median for timing in interleaved(works, repeats).values()]

    shared, plain = seconds(partial(mean_actions, bfloat16=False)), seconds(plain_mean_actions)
    gains = [whole / once for whole, once in zip(plain, shared, strict=True)]

    def exponent(times: Sequence[float]) -> float:
        """Return the slope of log time over log books."""
        return round(float(np.polyfit(np.log(books), np.log(times), 1)[0]), 3)

    figures: dict[str, object] = {
        "gain": round(gains[-1], 2),
        "shared_exponent": exponent(shared),
        "plain_exponent": exponent(plain),
        "days": days,
        "books": books[-1],
        "assets": market.n_assets,
        "repeats": repeats,
    }
    rows = tuple(
        (str(count), f"{1e3 * whole:.2f}", f"{1e3 * once:.2f}", f"{gain:.1f}")
        for count, whole, once, gain in zip(books, plain, shared, gains, strict=True)
    )
    return Result("encoding", figures, ("books a day", "plain, ms", "shared, ms", "gain"), rows)


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
