"""The seed tree."""

import torch

from training.seeds import generator_of, seed_of


def test_every_path_has_a_seed_of_its_own_and_always_the_same() -> None:
    paths = [("runner", index, version) for index in range(30) for version in range(30)]
    seeds = [seed_of(7, *path) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [seed_of(7, *path) for path in paths]


def test_seed_zero_is_a_seed_and_not_an_absence() -> None:
    assert seed_of(0, "a") != seed_of(1, "a")


def test_a_path_is_not_its_concatenation() -> None:
    assert seed_of(1, "ab", "c") != seed_of(1, "a", "bc")
    assert seed_of(1, 2) != seed_of(1, "2")


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    torch.randn(3, generator=generator_of(1, "a"))
    assert torch.equal(before, torch.random.get_rng_state())
