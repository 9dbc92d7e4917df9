from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from agents import networks
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork

F, M, B, K = 6, 3, 2, 5


@dataclass
class Batch:
    assets: Tensor
    market: Tensor
    investable: Tensor
    book_asset: Tensor
    book: Tensor


def _network(attention: bool = False, members: int = 3, dropout: float = 0.2) -> PolicyNetwork:
    generator = Generator().manual_seed(1)
    network = PolicyNetwork(NetworkSpec(F, M, B, K, members, 8, dropout, attention), generator)
    with torch.no_grad():  # leave the zero start, so that every path carries something
        for parameter in network.parameters():
            if not parameter.any():
                parameter.uniform_(-0.5, 0.5, generator=generator)
    return network


def _batch(days: int = 4, names: int = 9, seed: int = 2) -> Batch:
    generator = Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    investable = torch.rand((days, names), generator=generator) < 0.7
    investable[:, :2] = True
    return Batch(
        normal(days, names, F), normal(days, M), investable, normal(days, names, B), normal(days, K)
    )


def _mean(network: PolicyNetwork, batch: Batch) -> Tensor:
    encoding = network.encode(batch.assets, batch.market, batch.investable)
    return network.act(encoding, batch.book_asset, batch.book, batch.investable)


def _take(batch: Batch, names: Tensor) -> Batch:
    return Batch(
        batch.assets[:, names],
        batch.market,
        batch.investable[:, names],
        batch.book_asset[:, names],
        batch.book,
    )


@pytest.mark.parametrize("attention", [False, True])
def test_reordering_the_assets_reorders_their_scores_and_keeps_the_exposure(
    attention: bool,
) -> None:
    network, batch = _network(attention), _batch()
    order = torch.randperm(9, generator=Generator().manual_seed(3))
    mean, again = _mean(network, batch), _mean(network, _take(batch, order))
    assert torch.allclose(again[:, :-1], mean[:, :-1][:, order], atol=1e-6)
    assert torch.allclose(again[:, -1], mean[:, -1], atol=1e-6)
    assert mean[:, :-1].std() > 0.01  # the scores do differ


@pytest.mark.parametrize("attention", [False, True])
def test_names_that_are_not_investable_influence_nothing(attention: bool) -> None:
    network, batch = _network(attention), _batch()
    mean = _mean(network, batch)
    away = ~batch.investable.unsqueeze(-1)
    changed = Batch(
        torch.where(away, torch.nan, batch.assets),
        batch.market,
        batch.investable,
        torch.where(away, 7.0, batch.book_asset),
        batch.book,
    )
    assert torch.equal(_mean(network, changed), mean)
    assert (mean[:, :-1][~batch.investable] == 0.0).all()


@pytest.mark.parametrize("attention", [False, True])
def test_the_universe_may_change_size(attention: bool) -> None:
    network, batch = _network(attention), _batch(names=9)
    wider = Batch(
        torch.cat([batch.assets, torch.randn(4, 5, F, generator=Generator().manual_seed(4))], 1),
        batch.market,
        torch.cat([batch.investable, torch.zeros(4, 5, dtype=torch.bool)], 1),
        torch.cat([batch.book_asset, torch.ones(4, 5, B)], 1),
        batch.book,
    )
    mean, wide = _mean(network, batch), _mean(network, wider)
    assert wide.shape == (4, 15)
    assert torch.allclose(wide[:, :9], mean[:, :-1], atol=1e-6)
    assert torch.allclose(wide[:, -1], mean[:, -1], atol=1e-6)


@pytest.mark.parametrize("attention", [False, True])
def test_a_day_without_any_investable_name_gives_finite_actions_and_gradients(
    attention: bool,
) -> None:
    network, batch = _network(attention), _batch()
    batch.investable[:] = False
    mean = _mean(network, batch)
    mean.sum().backward()
    assert torch.isfinite(mean).all()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_an_untrained_policy_takes_the_exposure_of_the_rule() -> None:
    network = PolicyNetwork(NetworkSpec(F, M, B, K, 5, 16, 0.2, False), Generator().manual_seed(0))
    mean = _mean(network, _batch())
    assert (mean[:, -1] == 0.0).all()
    batch = _batch()
    batch.book_asset += 1.0
    batch.book += 1.0
    assert torch.equal(_mean(network, batch), mean)  # the book has no say yet


def test_actions_stay_inside_their_bounds() -> None:
    network, batch = _network(), _batch()
    batch.assets *= 100.0
    assert _mean(network, batch).abs().max() <= 1.0


def test_scores_are_the_mean_over_members_of_bounded_standardised_raw_scores() -> None:
    network, batch = _network(), _batch()
    with torch.no_grad():
        network.book_score_weight.zero_()
        network.scale.copy_(torch.tensor([0.5, 1.0, 2.0]))
    raw = network.score_raw(batch.assets, batch.market, batch.investable)
    assert raw.shape == (3, 4, 9)
    counted = (raw * batch.investable).sum(-1)
    assert torch.allclose(counted, torch.zeros_like(counted), atol=1e-5)
    expected = torch.tanh(raw / network.scale[:, None, None]).mean(0)
    assert torch.allclose(_mean(network, batch)[:, :-1], expected, atol=1e-6)


def test_members_share_no_parameter() -> None:
    network, batch = _network(members=3), _batch()
    raw = network.score_raw(batch.assets, batch.market, batch.investable)
    raw[1].square().sum().backward()
    for name in ("asset_weight", "market_weight", "own_weight", "others_weight", "score_weight"):
        gradient = getattr(network, name).grad
        assert gradient[1].any()
        assert not gradient[[0, 2]].any(), name


def test_the_value_shares_no_parameter_with_the_actions() -> None:
    network, batch = _network(), _batch()
    pooled = networks.pool(batch.assets, batch.investable.float().unsqueeze(-1)).squeeze(-2)
    value = network.value(pooled, batch.market, batch.book)
    assert value.shape == (4,)
    value.sum().backward()
    by_value = {name for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    _mean(network, batch).sum().backward()
    by_action = {name for name, p in network.named_parameters() if p.grad is not None}
    assert by_value
    assert by_action
    assert not by_value & by_action
    assert by_value | by_action | {"log_std"} == {name for name, _ in network.named_parameters()}


def test_parameters_come_from_the_given_generator_alone() -> None:
    spec = NetworkSpec(F, M, B, K, 2, 4, 0.0, True)
    before = torch.random.get_rng_state()
    first = PolicyNetwork(spec, Generator().manual_seed(5)).state_dict()
    torch.manual_seed(6)
    same = PolicyNetwork(spec, Generator().manual_seed(5)).state_dict()
    other = PolicyNetwork(spec, Generator().manual_seed(7)).state_dict()
    torch.random.set_rng_state(before)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["asset_weight"], other["asset_weight"])


def test_dropout_needs_a_generator_and_leaves_the_global_one_alone() -> None:
    network, batch = _network(dropout=0.5), _batch()
    inputs = (batch.assets, batch.market, batch.investable)
    state = torch.random.get_rng_state()
    plain = network.score_raw(*inputs)
    dropped = network.score_raw(*inputs, Generator().manual_seed(8))
    assert torch.equal(network.score_raw(*inputs), plain)
    assert torch.equal(network.score_raw(*inputs, Generator().manual_seed(8)), dropped)
    assert not torch.allclose(dropped, plain)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_dropout_keeps_the_expectation() -> None:
    ones = torch.ones(100_000)
    kept = networks._dropout(ones, 0.2, Generator().manual_seed(9))
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (kept == 0.0).float().mean().item() == pytest.approx(0.2, abs=0.01)


def test_books_of_one_day_share_its_encoding() -> None:
    network, batch = _network(), _batch(days=2)
    encoding = network.encode(batch.assets, batch.market, batch.investable)
    books = torch.randn(2, 3, K, generator=Generator().manual_seed(10))
    assets = torch.randn(2, 3, 9, B, generator=Generator().manual_seed(11))
    together = network.act(encoding[:, None], assets, books, batch.investable[:, None])
    assert together.shape == (2, 3, 10)
    for a in range(3):
        alone = network.act(encoding, assets[:, a], books[:, a], batch.investable)
        assert torch.allclose(together[:, a], alone, atol=1e-6)


def test_the_entropy_is_that_of_independent_normals_over_the_investable_names() -> None:
    generator = Generator().manual_seed(12)
    log_std = torch.tensor([-1.5, -3.0])
    investable = torch.rand((5, 3), generator=generator) < 0.6
    counted = torch.cat([investable, torch.ones(5, 1, dtype=torch.bool)], 1)
    expected = (Normal(0.0, log_std.exp()[[0, 0, 0, 1]]).entropy() * counted).sum(-1)
    assert torch.allclose(networks.entropy(log_std, investable), expected)


def test_the_default_network_is_small_and_needs_no_number_of_assets() -> None:
    network = PolicyNetwork(NetworkSpec(17, 8, 2, 5, 5, 16, 0.2, False), Generator().manual_seed(0))
    assert sum(p.numel() for p in network.parameters()) < 6_000
    assert network.log_std.exp().tolist() == pytest.approx([0.15, 0.05])
