"""Why an allocation is what it is: what each agent wanted, what changed it, what moved it most.

Distances are L1 distances of weights, fractions of NAV. Weights below `SMALLEST_SHOWN` are left
out: a tilted basket of thousands of names would hide what matters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.action_map import ActionMap, Day
from agents.artefact import Artefact
from agents.networks import PolicyNetwork, mean_action
from agents.observation import observe_books
from evaluation.netting import Netting
from market.bars import FloatArray
from risk.breaches import changes
from risk.projection import project
from serving.questions import CASH
from serving.track import Track

MOST_FEATURES = 10
SMALLEST_SHOWN = 1e-6
SMALLEST_CHANGE = 1e-9  # below it a distance is rounding
OCCLUDED_AT_ONCE = 64  # days in one pass of a network: their encodings are large


@dataclass(frozen=True, slots=True, eq=False)
class _Close:
    """The books at one close, E = 1: fields as in `Track`, and the market's day."""

    day: Day
    held: Tensor
    tilt: Tensor
    drawdown: Tensor
    action: Tensor
    target: Tensor


def explain(
    trained: Artefact,
    action_map: ActionMap,
    track: Track,
    netting: Netting,
    row: int,
    symbols: Sequence[str],
) -> dict[str, Any]:
    """Return the explanation of one session's allocation, as JSON types.

    Args:
        trained: the artefact that decided.
        action_map: of its mandates on the market of the track.
        track: the replayed books.
        netting: of the track.
        row: of the market; a session of the track.
        symbols: of the N names.

    Returns:
        `agents`: by name, the stage; the exposure of its rule, wanted and reached; the weights
        wanted and reached; `moved_by`, the distance that each limit, the no-trade band, and exits
        with breakers moved them, in that order; and the features that moved the wanted weights
        most, none for an agent at its rule. `mixer`: kind, capital shares and what each agent
        contributes. `weights`: of the account.
    """
    i = row - track.first
    with torch.inference_mode():
        close = _close(action_map, track, row)
        wanted = action_map.wanted(close.day, close.action, close.tilt)
        moved_by = _moved_by(action_map, close, wanted)
        features = _features(trained, action_map, close, row)
    manifest, rule = trained.manifest, close.day.rule[0].tolist()
    agents: dict[str, Any] = {}
    contributions: dict[str, Any] = {}
    for a, mandate in enumerate(manifest.mandates):
        asked, target = wanted[0, a].numpy(), track.target[i, a]
        agents[mandate.name] = {
            "stage": manifest.stages[mandate.name].name,
            "exposure": {
                "rule": rule[a],
                "wanted": float(asked.sum()),
                "target": float(target.sum()),
            },
            "wanted": _named(asked, symbols),
            "target": _named(target, symbols),
            "moved_by": moved_by[a],
            "features": features[a],
        }
        contributions[mandate.name] = _shown(target * netting.shares[i, a], symbols)
    names = list(agents)
    return {
        "agents": agents,
        "mixer": {
            "kind": type(manifest.ensemble).__name__,
            "shares": dict(zip(names, netting.shares[i].tolist(), strict=True)),
            "contributions": contributions,
        },
        "weights": _named(netting.weights[i], symbols),
    }


def _close(action_map: ActionMap, track: Track, row: int) -> _Close:
    i = row - track.first
    columns = (track.held, track.tilt, track.drawdown, track.action, track.target)
    device = action_map.market.device
    day = action_map.day(torch.tensor([row], device=device))
    return _Close(day, *(torch.as_tensor(column[i : i + 1]).to(device) for column in columns))


def _moved_by(action_map: ActionMap, close: _Close, wanted: Tensor) -> list[dict[str, float]]:
    """Return for every agent what lies between the wanted weights and the target."""
    day, bounds = close.day, action_map.bounds(close.day)
    limited = project(
        wanted,
        close.held,
        bounds.limits,
        bounds.sectors,
        bounds.beta,
        bounds.market_volatility,
        bounds.idiosyncratic_volatility,
    )
    mapped, _ = action_map.on(day, close.action, close.held, close.tilt)
    by_cause = {
        **changes(wanted, close.held, bounds),
        "band": (mapped - limited).abs().sum(-1),
        "exits_and_breakers": (close.target - mapped).abs().sum(-1),
    }
    columns = {cause: distance[0].tolist() for cause, distance in by_cause.items()}
    return [
        {cause: by[a] for cause, by in columns.items() if by[a] > SMALLEST_CHANGE}
        for a in range(len(action_map.mandates))
    ]


def _features(
    trained: Artefact, action_map: ActionMap, close: _Close, row: int
) -> list[list[dict[str, Any]]]:
    """Return for every agent the features of the day that moved its wanted weights most.

    A feature's part is the distance that the weights move when it is set to 0, its average, for
    all names at once: occlusion. Features that say the same hide each other's part.
    """
    spec = trained.manifest.features
    names = [*spec.asset_names, *spec.market_names]
    actions = _occluded_actions(trained.networks, action_map, close, row)  # (1 + F + M, A, N + 1)
    wanted = action_map.wanted(close.day, actions, close.tilt)
    moved = (wanted[1:] - wanted[:1]).abs().sum(-1).T.tolist()  # (A, F + M)
    return [
        [
            {"feature": name, "moved": distance}
            for distance, name in sorted(zip(by, names, strict=True), key=lambda one: -one[0])
            if distance > SMALLEST_CHANGE
        ][:MOST_FEATURES]
        for by in moved
    ]


def _occluded_actions(
    networks: Mapping[str, PolicyNetwork], action_map: ActionMap, close: _Close, row: int
) -> Tensor:
    """Return the actions (1 + F + M, A, N + 1): as they are, then with one feature away each."""
    market = action_map.market
    assets, day = market.asset_features[row], market.market_features[row]
    columns = assets.shape[-1] + day.shape[-1]
    kept = torch.ones(1 + columns, columns, device=market.device)
    kept[1:].fill_diagonal_(0.0)
    book_asset, book = observe_books(action_map, close.day, close.held, close.tilt, close.drawdown)
    actions = close.action.repeat(1 + columns, 1, 1)
    for policy, network in networks.items():
        played = [a for a, each in enumerate(action_map.mandates) if each.policy == policy]
        for block in torch.split(torch.arange(1 + columns), OCCLUDED_AT_ONCE):
            left = kept[block]
            investable = market.investable[row].expand(len(block), -1)
            encoding = network.encode(
                assets * left[:, None, : assets.shape[-1]],
                day * left[:, assets.shape[-1] :],
                investable,
            )
            part = network.day_part(encoding, investable)
            for a in played:
                actions[block, a] = mean_action(
                    part,
                    network.book_weights,
                    book_asset[:, a].expand(len(block), -1, -1),
                    book[:, a].expand(len(block), -1),
                    investable,
                )
    return actions


def _named(weights: FloatArray, symbols: Sequence[str]) -> dict[str, float]:
    """Return the weights by symbol, and the cash that they leave."""
    return {**_shown(weights, symbols), CASH: max(1.0 - float(weights.sum()), 0.0)}


def _shown(weights: FloatArray, symbols: Sequence[str]) -> dict[str, float]:
    named = zip(symbols, weights.tolist(), strict=True)
    return {symbol: weight for symbol, weight in named if weight >= SMALLEST_SHOWN}
