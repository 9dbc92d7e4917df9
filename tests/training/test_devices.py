"""Sampling and learning keep to the device of their market, shown without having another one.

Every tensor that is asked for with a device, or sent to one, is marked here. An operation on marked
and unmarked tensors is one that a GPU would refuse, apart from those that CUDA allows: numbers
without dimensions, and indices from the CPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from training.loss import LossWeights, SocietyLoss, mean_actions
from training.rollout import Rollout
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society

ROWS = slice(0, 300)
FACTORIES = ("arange", "empty", "full", "ones", "rand", "randint", "randn", "tensor", "zeros")
TAKES_INDICES_FROM_THE_CPU = ("aten.index.", "aten.index_put")


class Marked(torch.Tensor):
    """A tensor that stands for one on another device; the numbers are in `here`."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "Marked":
        made: Marked = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute with the numbers and mark the result."""
        name = str(func)
        assert not name.startswith("aten.copy_") or isinstance(args[0], Marked), "copied unasked"
        for leaf in tree_leaves((args, kwargs)):
            if not isinstance(leaf, torch.Tensor) or isinstance(leaf, Marked) or leaf.dim() == 0:
                continue
            allowed = name.startswith("aten.copy_") or (
                name.startswith(TAKES_INDICES_FROM_THE_CPU) and not leaf.is_floating_point()
            )
            assert allowed, f"{name} mixes devices: {tuple(leaf.shape)} {leaf.dtype}"
        plain = tree_map(lambda leaf: leaf.here if isinstance(leaf, Marked) else leaf, args)
        given = tree_map(lambda leaf: leaf.here if isinstance(leaf, Marked) else leaf, kwargs or {})
        result = func(*plain, **given)
        if name.partition(".")[2].partition(".")[0].endswith("_"):
            return args[0]  # it worked in place
        return tree_map(
            lambda leaf: Marked(leaf) if isinstance(leaf, torch.Tensor) else leaf, result
        )


def marked(value: torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, Marked) else Marked(value)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function from which on a device that is named is another device."""

    def factory(made: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def make(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
            if device is None:
                return made(*args, **kwargs)
            assert kwargs.get("generator") is None, "a generator of the CPU draws on a device"
            return marked(made(*args, **kwargs))

        return make

    def to(self: torch.Tensor, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        rest = list(args)
        if rest and isinstance(rest[0], str | torch.device):
            device = rest.pop(0)
        value = self if device is None else marked(self)
        return original_to(value, *rest, **kwargs) if rest or kwargs else value

    original_to = torch.Tensor.to

    def begin() -> None:
        for name in FACTORIES:
            monkeypatch.setattr(torch, name, factory(getattr(torch, name)))
        monkeypatch.setattr(torch.Tensor, "to", to)

    return begin


def networks_of(society: Society) -> dict[str, Any]:
    """Return networks on the device of the society's market."""
    networks = society.new_networks(1)
    for network in networks.values() if isinstance(society.market.close, Marked) else ():
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                moved = torch.nn.Parameter(marked(parameter.detach()))
                module.register_parameter(name, moved)
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, marked(buffer))
    return networks


def sampled(society: Society, rl: RLSettings) -> Mapping[str, Mapping[str, torch.Tensor]]:
    with torch.no_grad():
        rollout = Rollout(
            society,
            society.env(ROWS),
            networks_of(society),
            rl,
            lambda *path: generator_of(1, *path),
        )
        rollout.play()
        return rollout.batches()


def moved(society: Society) -> Society:
    tensors = {
        item.name: marked(value)
        for item in fields(society.market)
        if isinstance(value := getattr(society.market, item.name), torch.Tensor)
    }
    return replace(society, market=replace(society.market, **tensors))


def test_a_rollout_and_its_loss_stay_on_the_device_of_the_market(
    society_of: Callable[..., Society],
    settings: Callable[..., Any],
    elsewhere: Callable[[], None],
) -> None:
    society, rl = (
        society_of(episode_sessions=16),
        settings("algorithm", "ppo", starts=2, replicas=4),
    )
    expected = sampled(society, rl)
    elsewhere()
    there = moved(society)
    batches, loss = sampled(there, rl), SocietyLoss(there)
    for policy, columns in batches.items():
        for name, column in columns.items():
            assert isinstance(column, Marked), name
            assert torch.equal(column.here, expected[policy][name])
        network = networks_of(there)[policy]
        mean = mean_actions(network, there.market, columns, rl.bfloat16)
        total = loss(policy, network, mean, columns, LossWeights(0.2, 0.5, 0.3)).total
        total.backward()
        assert all(isinstance(parameter.grad, Marked) for parameter in network.parameters())


def test_a_learner_takes_its_minibatches_on_its_own_device(
    society_of: Callable[..., Society],
    settings: Callable[..., Any],
    elsewhere: Callable[[], None],
    ray_here: None,
) -> None:
    from ray.rllib.core.learner.training_data import TrainingData
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    from training.algorithm import Trainer

    society, rl = (
        society_of(episode_sessions=16),
        settings("algorithm", "ppo", starts=2, replicas=4),
    )
    trainer = Trainer(society, society.new_networks(1), ROWS, rl, 1)
    try:
        learner = trainer._algorithm.learner_group._learner
        batches = sampled(society, rl)
        elsewhere()
        batch = MultiAgentBatch({p: SampleBatch(dict(c)) for p, c in batches.items()}, env_steps=1)
        parts = learner._create_iterator_if_necessary(
            training_data=TrainingData(batch=batch), num_epochs=1, minibatch_size=8
        )
        for part in parts:
            for columns in part.policy_batches.values():
                assert all(isinstance(column, Marked) for column in columns.values())
    finally:
        trainer.stop()
