"""The loss: its formula by hand, and days that are encoded once against books encoded each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.action_map import ActionMap
from agents.mandates import Mandate
from agents.market_tensors import MarketTensors
from agents.networks import PolicyNetwork, pool
from benchmarks.encoding import plain_mean_actions
from training import columns
from training.loss import LossWeights, SocietyLoss, mean_actions, minibatches
from training.rollout import Rollout, book_values
from training.seeds import generator_of
from training.society import Society

ROWS = slice(0, 24)  # few: episodes of 16 sessions share days, and one day has nothing listed
EMPTY_DAY = 12
WEIGHTS = LossWeights(clip=0.2, value=0.5, anchor=0.3)
SIGMA = torch.tensor([0.3, 0.1])  # of exploration when learning; it was another when sampling

Batch = Mapping[str, Tensor]
Gradients = dict[str, Tensor]


@pytest.fixture
def society(
    society_of: Callable[..., Society],
    market_of: Callable[..., MarketTensors],
    mandates: tuple[Mandate, ...],
) -> Society:
    """Return a policy of two agents beside one of a single one; names are not always listed."""
    market = market_of()
    listed = torch.rand(market.investable.shape, generator=torch.Generator().manual_seed(3)) < 0.8
    listed[EMPTY_DAY] = False
    shared = tuple(replace(mandate, policy="shared") for mandate in mandates[:2])
    return society_of(
        market=replace(market, investable=listed),
        mandates=(*shared, mandates[2]),
        episode_sessions=16,
    )


@pytest.fixture
def networks(society: Society) -> dict[str, PolicyNetwork]:
    """Networks that no longer are those that sampled, and in which every part says something."""
    made = society.new_networks(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for network in made.values():
            for parameter in network.parameters():
                noise = torch.empty_like(parameter).uniform_(-0.1, 0.1, generator=generator)
                parameter.add_(noise)
            network.log_std.copy_(SIGMA.log())
            network.scale.copy_(torch.tensor([0.5, 2.0]))
    return made


@pytest.fixture
def batches(society: Society, settings: Callable[..., Any]) -> dict[str, Batch]:
    rl = settings("algorithm", "ppo", starts=3, replicas=4)
    with torch.no_grad():
        rollout = Rollout(
            society,
            society.env(ROWS),
            society.new_networks(1),
            rl,
            lambda *path: generator_of(1, *path),
        )
        rollout.play()
        batches = {policy: dict(columns_) for policy, columns_ in rollout.batches().items()}
    for batch in batches.values():
        ruined = torch.Generator().manual_seed(4)
        batch[columns.ALIVE] = torch.rand(batch[columns.ALIVE].shape, generator=ruined) < 0.9
    return batches


def plain_values(network: PolicyNetwork, market: MarketTensors, batch: Batch) -> Tensor:
    """Return the values (D, R, P) with every book's own market observation."""
    day = batch[columns.DAY][:, None, None].expand(-1, *batch[columns.BOOK].shape[1:3])
    pooled = pool(market.asset_features[day], market.investable[day].float().unsqueeze(-1))
    return network.value(pooled.squeeze(-2), market.market_features[day], batch[columns.BOOK])


def plain_loss(
    society: Society, policy: str, network: PolicyNetwork, mean: Tensor, batch: Batch
) -> Tensor:
    """Return the loss as papers write it: a clipped ratio, a squared error, a divergence."""
    market, day = society.market, batch[columns.DAY]
    n = market.n_assets
    sigma = network.log_std.exp()[[0] * n + [1]]
    normal = torch.distributions.Normal(mean, sigma)
    constant = 0.5 * torch.log(torch.tensor(2.0 * torch.pi))  # the sampler leaves it out
    ratio = (normal.log_prob(batch[columns.ACTIONS]) + constant - batch[columns.ACTION_LOGP]).exp()
    advantage = batch[columns.ADVANTAGES].unsqueeze(-1)
    clipped = ratio.clamp(1.0 - WEIGHTS.clip, 1.0 + WEIGHTS.clip)
    gain = torch.minimum(advantage * ratio, advantage * clipped)
    counted = torch.cat([market.investable[day], torch.ones(len(day), 1, dtype=torch.bool)], -1)
    gain = (gain * counted[:, None, None]).sum(-1)

    error = (plain_values(network, market, batch) - batch[columns.VALUE_TARGETS]).square()

    agents = society.policies[policy]
    base = ActionMap(society.mandates, market).base_weights(day)[:, agents].unsqueeze(1)
    tilt = torch.tensor([society.mandates[agent].tilt for agent in agents]).unsqueeze(-1)
    log_base = base.clamp(min=1e-30).log()
    log_weight = torch.log_softmax(log_base + tilt * mean[..., :-1], -1)
    divergence = (log_weight.exp() * (log_weight - log_base)).sum(-1) * (base.sum(-1) > 0.0)

    each = -gain + WEIGHTS.value * error + WEIGHTS.anchor * divergence
    alive = batch[columns.ALIVE]
    return each[alive].mean()


def gradients(network: PolicyNetwork, loss: Tensor) -> Gradients:
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("policy", ["shared", "aggressive"])
@pytest.mark.parametrize("attention", [False, True])
def test_days_encoded_once_give_the_actions_values_and_gradients_of_books_encoded_each(
    society: Society,
    networks: dict[str, PolicyNetwork],
    batches: dict[str, Batch],
    policy: str,
    attention: bool,
) -> None:
    if attention:
        spec = replace(society.network, attention=True)
        networks[policy] = PolicyNetwork(spec, torch.Generator().manual_seed(5))
    market, network, batch = society.market, networks[policy], batches[policy]
    assert len(batch[columns.DAY].unique()) < len(batch[columns.DAY])
    assert EMPTY_DAY in batch[columns.DAY]
    mean = mean_actions(network, market, batch, bfloat16=False)
    plain = plain_mean_actions(network, market, batch)
    torch.testing.assert_close(mean, plain, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(
        book_values(network, market, batch[columns.DAY], batch[columns.BOOK]),
        plain_values(network, market, batch),
        rtol=0.0,
        atol=1e-5,
    )
    found = SocietyLoss(society)(policy, network, mean, batch, WEIGHTS).total
    expected = plain_loss(society, policy, network, plain, batch)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-5)
    ours, theirs = gradients(network, found), gradients(network, expected)
    assert ours.keys() == theirs.keys() == dict(network.named_parameters()).keys()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_loss_clips_some_ratios_and_not_all(
    society: Society, networks: dict[str, PolicyNetwork], batches: dict[str, Batch]
) -> None:
    """Else the comparison above says nothing about clipping."""
    network, batch = networks["aggressive"], batches["aggressive"]
    mean = mean_actions(network, society.market, batch, bfloat16=False)
    loss = SocietyLoss(society)
    totals = [
        loss("aggressive", network, mean, batch, replace(WEIGHTS, clip=clip)).policy.item()
        for clip in (0.01, 0.2, float("inf"))
    ]
    assert totals[0] > totals[1] > totals[2]


def test_bfloat16_encodes_nearly_alike_and_leaves_float32_behind(
    society: Society, networks: dict[str, PolicyNetwork], batches: dict[str, Batch]
) -> None:
    network, batch = networks["aggressive"], batches["aggressive"]
    exact, rough = (
        mean_actions(network, society.market, batch, bfloat16=chosen) for chosen in (False, True)
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.0, atol=0.02)


def test_an_epoch_takes_every_row_once() -> None:
    drawn = list(minibatches(10, 4, 3, torch.Generator().manual_seed(1)))
    assert [len(index) for index in drawn] == [4, 3, 3] * 3
    for epoch in (drawn[:3], drawn[3:6], drawn[6:]):
        assert torch.cat(epoch).sort().values.tolist() == list(range(10))
