"""An exported policy acts as in torch, whatever the universe, or is not exported."""

import json
import warnings

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from agents import artefact
from agents.artefact import Artefact
from agents.ensemble import Fixed
from agents.mandates import Mandate
from agents.manifest import Manifest, Stage
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES, Blocks
from agents.onnx_export import TOLERANCE, Acting, acting, difference, export, mean, to_onnx
from market.dataset import Dataset
from market.errors import InputError

POLICY = "aggressive"


def spec(data: Dataset, attention: bool) -> NetworkSpec:
    return NetworkSpec(
        asset_features=data.asset_features.shape[-1],
        market_features=data.market_features.shape[-1],
        book_asset=BOOK_ASSET_FEATURES,
        book=BOOK_FEATURES,
        members=3,
        hidden=8,
        dropout=0.2,
        attention=attention,
    )


def network(shape: NetworkSpec, seed: int) -> PolicyNetwork:
    """Return a network in which every parameter has a say."""
    generator = Generator().manual_seed(seed)
    made = PolicyNetwork(shape, generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
        made.scale.uniform_(0.5, 2.0, generator=generator)
    return made


@pytest.fixture(scope="module", params=[False, True], ids=["pooled", "attention"])
def trained(
    request: pytest.FixtureRequest,
    presets: dict[str, Mandate],
    dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Artefact:
    shape = spec(dataset, request.param)
    manifest = Manifest(
        mandates=(presets["balanced"], presets[POLICY]),
        stages={"balanced": Stage.rule, POLICY: Stage.rl},
        network=shape,
        features=dataset.features,
        ensemble=Fixed(None),
        universe=dataset.bars.symbols,
        data_sha256=dataset.bars.sha256,
        code_version="test",
        assumed_adv=None,
        metrics={},
        trials=1,
    )
    folder = tmp_path_factory.mktemp("onnx") / "artefact"
    artefact.save(folder, {POLICY: network(shape, 3)}, manifest)
    return artefact.load(folder)


@pytest.fixture(scope="module")
def model(trained: Artefact) -> bytes:
    return to_onnx(trained, POLICY)


@pytest.fixture(scope="module")
def act(model: bytes) -> Acting:
    return acting(model)


def blocks(shape: NetworkSpec, batch: int, names: int, seed: int, listed: float = 0.8) -> Blocks:
    generator = Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator).clamp(-3.0, 3.0)

    return Blocks(
        normal(batch, names, shape.asset_features),
        normal(batch, shape.market_features),
        (torch.rand(batch, names, generator=generator) < listed).float(),
        normal(batch, names, shape.book_asset),
        normal(batch, shape.book),
    )


@given(
    batch=st.integers(1, 9),
    names=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    listed=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_onnx_acts_as_torch_for_any_number_of_names_and_books(
    trained: Artefact, act: Acting, batch: int, names: int, seed: int, listed: float
) -> None:
    seen = blocks(trained.manifest.network, batch, names, seed, listed)
    found = act(seen)
    assert found.shape == (batch, names + 1)
    assert np.abs(found - mean(trained.networks[POLICY], seen)).max() <= TOLERANCE
    assert (found[:, :-1][seen.investable.numpy() == 0.0] == 0.0).all()


def test_the_model_says_what_it_is_and_what_it_takes(trained: Artefact, model: bytes) -> None:
    parsed = onnx.load_from_string(model)
    props = {item.key: item.value for item in parsed.metadata_props}
    features = trained.manifest.features
    assert props["artefact_sha256"] == trained.sha256
    assert props["policy"] == POLICY
    assert json.loads(props["asset_features"]) == list(features.asset_names)
    assert json.loads(props["market_features"]) == list(features.market_names)
    assert float(props["clip"]) == features.clip
    shapes = {
        item.name: [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in parsed.graph.input
    }
    shape = trained.manifest.network
    assert shapes == {
        "asset_features": ["batch", "names", shape.asset_features],
        "market_features": ["batch", shape.market_features],
        "investable": ["batch", "names"],
        "book_asset": ["batch", "names", shape.book_asset],
        "book": ["batch", shape.book],
    }
    assert [item.name for item in parsed.graph.output] == ["action"]


def test_another_network_is_told_apart(trained: Artefact, act: Acting) -> None:
    shape = trained.manifest.network
    seen = blocks(shape, 4, 9, 0)
    assert difference(trained.networks[POLICY], act, seen) <= TOLERANCE
    nearly = network(shape, 3)
    with torch.no_grad():
        nearly.exposure_bias += 1e-3
    assert difference(nearly, act, seen) > TOLERANCE


def test_what_does_not_act_as_in_torch_is_not_exported(trained: Artefact) -> None:
    seen = blocks(trained.manifest.network, 3, 6, 1)
    seen.market_features[0, 0] = torch.nan  # nothing can be compared
    with pytest.raises(InputError, match=rf"policy {POLICY} in ONNX acts nan .* nothing was"):
        export(trained, {POLICY: seen})


def test_every_policy_beyond_the_rule_is_exported_without_a_word(
    trained: Artefact, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = export(trained, {POLICY: blocks(trained.manifest.network, 5, 8, 2)})
    assert list(found) == [POLICY]
    assert found[POLICY].max_abs_diff <= TOLERANCE
    assert not heard
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
