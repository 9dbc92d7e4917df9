"""Labels, what they may see, and what supervision does to a network."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.market_tensors import MarketTensors
from market.errors import InputError
from training.society import Society
from training.warm_start import fill_returns, forward_labels, warm_start

ROWS = slice(0, 300)


def test_a_label_is_the_z_score_of_what_is_earned_from_the_next_fill_on(
    market_of: Callable[..., MarketTensors],
) -> None:
    market = market_of()
    labels, valid = forward_labels(market, ROWS, horizon=5)
    t = 17
    fills = market.open[t + 1 : t + 7].numpy()
    returns = fills[1:] / fills[:-1] - 1.0
    residual = returns - returns.mean(1, keepdims=True)  # every beta is 1
    growth = residual.sum(0) - 0.5 * (residual**2).sum(0)
    expected = (growth - growth.mean()) / growth.std()
    np.testing.assert_allclose(labels[t].numpy(), expected, rtol=1e-5)
    assert valid[t].all()


def test_no_label_ends_after_the_rows(market_of: Callable[..., MarketTensors]) -> None:
    market = market_of()
    labels, valid = forward_labels(market, ROWS, horizon=21)
    # Row t uses fills t + 1 to t + 22, and 299 is the last row.
    assert valid[277].any()
    assert not valid[278:].any()
    assert not labels[278:].any()


def test_training_is_blind_to_everything_after_its_rows(
    society_of: Callable[..., Society], settings: Callable[..., Any]
) -> None:
    ranker = settings("pretrain", "ranker", updates=5, batch_days=32)

    def trained(society: Society) -> list[torch.Tensor]:
        networks = society.new_networks(3)
        warm_start(networks, society.market, ROWS, ranker, seed=3)
        return [value for n in networks.values() for value in n.state_dict().values()]

    society = society_of()
    changed = {
        name: getattr(society.market, name).clone()
        for name in (
            "open",
            "close",
            "reference_night",
            "reference_return",
            "asset_features",
            "beta",
        )
    }
    for values in changed.values():
        values[ROWS.stop :] *= 1.7
    later = replace(society, market=replace(society.market, **changed))
    for ours, theirs in zip(trained(society), trained(later), strict=True):
        assert torch.equal(ours, theirs)


def test_a_name_that_cannot_be_filled_has_no_label(
    market_of: Callable[..., MarketTensors],
) -> None:
    market = market_of()
    tradable = market.tradable.clone()
    tradable[51, 2] = False
    labels, valid = forward_labels(replace(market, tradable=tradable), ROWS, horizon=5)
    assert not valid[50, 2]
    assert labels[50, 2] == 0.0
    assert valid[50, [0, 1, 3, 4, 5]].all()
    assert valid[49, 2]


def test_a_delisting_pays_out_once_and_earns_nothing_afterwards(
    market_of: Callable[..., MarketTensors],
) -> None:
    market = market_of(sessions=30)
    close, tradable, payout = market.close.clone(), market.tradable.clone(), market.payout.clone()
    close[20:, 1] = close[19, 1]  # the last close is carried on
    tradable[20:, 1] = False
    payout[20, 1] = 0.4
    ended = replace(
        market, close=close, open=close, tradable=tradable, investable=tradable, payout=payout
    )
    returns = fill_returns(ended)[:, 1]
    assert returns[19] == pytest.approx(-0.6)
    assert not returns[20:].any()
    kept = [0, 2, 3, 4, 5]
    assert torch.equal(fill_returns(ended)[:, kept], fill_returns(market)[:, kept])


def test_supervision_finds_the_planted_feature(
    society_of: Callable[..., Society], settings: Callable[..., Any]
) -> None:
    society = society_of()
    networks = society.new_networks(1)
    ranker = settings("pretrain", "ranker", horizon=1, updates=150, batch_days=128)
    loss = warm_start(networks, society.market, ROWS, ranker, seed=1)
    market = society.market
    unseen = slice(310, 400)
    for policy, network in networks.items():
        raw = network.score_raw(
            market.asset_features[unseen], market.market_features[unseen], market.investable[unseen]
        )
        score = raw.mean(0).detach()
        planted = market.asset_features[unseen, :, 0]
        correlation = torch.corrcoef(torch.stack([score.flatten(), planted.flatten()]))[0, 1]
        assert correlation > 0.6
        assert loss[policy] < 1.0  # a constant score has a squared error of 1


def test_the_scale_is_the_deviation_of_the_raw_scores_in_training(
    society_of: Callable[..., Society], settings: Callable[..., Any]
) -> None:
    society = society_of()
    networks = society.new_networks(1)
    warm_start(networks, society.market, ROWS, settings("pretrain", "ranker", updates=3), seed=1)
    market, days = society.market, slice(0, 278)
    for network in networks.values():
        raw = network.score_raw(
            market.asset_features[days], market.market_features[days], market.investable[days]
        )
        torch.testing.assert_close(network.scale, raw.square().mean((1, 2)).sqrt().detach())


def test_policies_and_members_differ_and_each_is_repeatable(
    society_of: Callable[..., Society], settings: Callable[..., Any]
) -> None:
    society = society_of()
    ranker = settings("pretrain", "ranker", updates=3, batch_days=32)

    def weights(policies: list[str]) -> dict[str, torch.Tensor]:
        networks = society.new_networks(5)
        chosen = {policy: networks[policy] for policy in policies}
        warm_start(chosen, society.market, ROWS, ranker, seed=5)
        return {policy: network.score_weight.detach() for policy, network in chosen.items()}

    everyone = weights(["conservative", "balanced", "aggressive"])
    assert not torch.equal(everyone["balanced"], everyone["aggressive"])
    assert not torch.equal(everyone["balanced"][0], everyone["balanced"][1])
    assert torch.equal(everyone["balanced"], weights(["balanced"])["balanced"])


def test_rows_without_a_label_are_refused(
    society_of: Callable[..., Society], settings: Callable[..., Any]
) -> None:
    society = society_of()
    with pytest.raises(InputError, match=r"pretrain.horizon is 21: .* the 20 sessions"):
        warm_start(
            society.new_networks(1), society.market, slice(0, 20), settings("pretrain", "ranker"), 1
        )
