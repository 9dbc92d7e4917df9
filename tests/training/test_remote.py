"""Remote runners and learners: what they compute together, and what the death of one costs."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.placement import ActorsLostError
from training.rollout import Rollout
from training.seeds import generator_of
from training.settings import RLSettings
from training.society import Society

pytestmark = pytest.mark.usefixtures("ray_here")

ROWS, SEED = slice(0, 300), 1
SMALL = {"starts": 2, "replicas": 4, "minibatch_days": 16, "epochs": 2, "device": "cpu"}
SESSIONS, ENVIRONMENTS, AGENTS = 16, 8, 3
STEPS = SESSIONS * ENVIRONMENTS * AGENTS  # of one runner and iteration
DAYS = SESSIONS * 2  # day slots likewise

Weights = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def society(society_of: Callable[..., Society]) -> Society:
    return society_of(episode_sessions=SESSIONS)


@pytest.fixture(scope="module")
def rl(settings: Callable[..., Any]) -> Callable[..., RLSettings]:
    def build(**values: Any) -> RLSettings:
        made: RLSettings = settings("algorithm", "ppo", **{**SMALL, **values})
        return made

    return build


@contextmanager
def training(society: Society, settings: RLSettings) -> Iterator[Any]:
    from training.algorithm import Trainer

    made = Trainer(society, society.new_networks(SEED), ROWS, settings, SEED)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def two_and_two(society: Society, rl: Callable[..., RLSettings], ray_here: None) -> Iterator[Any]:
    """Two remote runners and two remote learners, in which the last test leaves no life."""
    with training(society, rl(num_env_runners=2, num_learners=2)) as made:
        yield made


def weights_of(trainer: Any) -> Weights:
    return {policy: network.state_dict() for policy, network in trainer.networks().items()}


def runners_of(trainer: Any) -> dict[int, Any]:
    actors: dict[int, Any] = trainer._algorithm.env_runner_group._worker_manager.actors()
    return actors


def learners_of(trainer: Any) -> list[Any]:
    return list(trainer._algorithm.learner_group._worker_manager.actors().values())


def kill(actor: Any) -> None:
    """End the process of an actor as the system would."""
    import ray

    os.kill(ray.get(actor.apply.remote(lambda _: os.getpid())), signal.SIGKILL)


def by_hand(trainer: Any, index: int) -> Rollout:
    """Return the rollout that a runner plays next, played here."""
    import ray

    version = ray.get(trainer._algorithm._weights)["weights_seq_no"]
    society: Society = trainer.society
    rollout = Rollout(
        society,
        society.env(ROWS),
        trainer.networks(),
        trainer.settings,
        lambda *path: generator_of(SEED, "runner", index, version, *path),
    )
    with torch.no_grad():
        rollout.play()
    return rollout


# --- the same learning, wherever it is done


def largest_difference(ours: Weights, theirs: Weights) -> float:
    return max(
        float((value - theirs[policy][name]).abs().max())
        for policy, tensors in ours.items()
        for name, value in tensors.items()
    )


def learnt_here(society: Society, settings: RLSettings, runner: int, iterations: int) -> Weights:
    """Return what this process learns by itself from the stream of a runner."""
    with training(society, settings) as made:
        made._algorithm.env_runner.worker_index = runner
        for _ in range(iterations):
            made.iterate()
        return weights_of(made)


def test_a_remote_runner_and_two_learners_learn_what_one_process_does_and_can_be_resumed(
    society: Society, rl: Callable[..., RLSettings], tmp_path: Path
) -> None:
    """Over whole batches, where it does not matter how the rows are dealt to minibatches."""
    whole = rl(minibatch_days=DAYS, epochs=3)
    expected = learnt_here(society, whole, 1, 1)
    remote = replace(whole, num_env_runners=1, num_learners=2)
    with training(society, remote) as there:
        initial = weights_of(there)
        there.iterate()
        assert largest_difference(initial, expected) > 3e-4
        assert largest_difference(weights_of(there), expected) < 1e-5
        there.save(tmp_path)
        there.iterate()
        expected, steps = weights_of(there), there.agent_steps
    with training(society, remote) as resumed:
        resumed.restore(tmp_path)
        resumed.iterate()
        assert largest_difference(weights_of(resumed), expected) == 0.0
        assert resumed.agent_steps == steps


def test_one_remote_learner_does_what_this_process_does(
    society: Society, rl: Callable[..., RLSettings]
) -> None:
    with training(society, rl(num_learners=1)) as there:
        there.iterate()
        there.iterate()
        assert largest_difference(weights_of(there), learnt_here(society, rl(), 0, 2)) == 0.0


# --- sharing out


def numbered(rows: int) -> Any:
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    columns = {
        "day": torch.arange(rows),
        "book": torch.arange(rows * 6.0).view(rows, 2, 3),
        "alive": torch.ones(rows, 2, dtype=torch.bool),
    }
    return MultiAgentBatch({"one": SampleBatch(columns)}, env_steps=rows)


@pytest.mark.parametrize(("rows", "count"), [(12, 2), (13, 2), (13, 5), (3, 4)])
def test_every_row_goes_to_one_learner_and_all_get_equally_many(rows: int, count: int) -> None:
    from training.society_ppo import shards

    batch = numbered(rows)
    parts = [part.policy_batches["one"] for part in shards(batch, count)]
    assert len({len(part["day"]) for part in parts}) == 1
    alive = [part["alive"].any(1) for part in parts]
    days = np.concatenate([part["day"][living] for part, living in zip(parts, alive, strict=True)])
    assert sorted(days) == list(range(rows))
    for part in parts:
        assert np.array_equal(part["book"], batch.policy_batches["one"]["book"][part["day"]])
        assert part["book"].base is None or part["book"].base.nbytes == part["book"].nbytes


# --- without room, without code: before the four below take all CPUs


def test_a_run_ends_although_nowhere_is_room_for_the_one_that_takes_a_place(
    society: Society, rl: Callable[..., RLSettings]
) -> None:
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    with training(society, rl(num_env_runners=1, num_cpus_per_env_runner=3.0)) as made:
        made.iterate()
        died, group = runners_of(made)[1], made._algorithm.env_runner_group
        groups = [placement_group([{"CPU": 1.0}]), placement_group([{"CPU": 3.0}])]
        try:
            kill(died)
            ray.get(groups[1].ready(), timeout=60.0)  # it takes the room of the dead one
            deadline = time.monotonic() + 60.0
            while runners_of(made)[1] == died:
                assert time.monotonic() < deadline
                made._algorithm._play(group)
                made._algorithm.restore_env_runners(group)
            started = time.monotonic()
            made.stop()
            assert time.monotonic() - started < 20.0
        finally:
            for each in groups:
                remove_placement_group(each)


class Foreign:
    """What no other process can read, as where its code is another one."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("of another code",)


def test_runners_that_cannot_be_made_say_why_in_a_line(
    society: Society, rl: Callable[..., RLSettings]
) -> None:
    from training.algorithm import Trainer

    foreign: Any = replace(society, cash_rate=Foreign())
    with pytest.raises(
        ActorsLostError, match=r"^no env runner could be made: .*of another code"
    ) as lost:
        Trainer(foreign, society.new_networks(SEED), ROWS, rl(num_env_runners=1), SEED)
    assert "\n" not in str(lost.value)


# --- together


def test_the_metrics_are_those_of_all_runners_together(two_and_two: Any) -> None:
    two_and_two.iterate()
    before = time.monotonic()
    rollouts = [by_hand(two_and_two, index) for index in (1, 2)]
    result = two_and_two.iterate()
    seconds = time.monotonic() - before
    sampled = result["env_runners"]
    assert not (rollouts[0].action == rollouts[1].action).any()  # streams of their own
    returns = torch.cat([rollout.rewards.sum(0).flatten(0, 1) for rollout in rollouts])  # (2E, A)
    totals = returns.sum(-1)
    assert sampled["episode_return_mean"] == pytest.approx(float(totals.mean()), rel=1e-5)
    assert sampled["episode_return_min"] == pytest.approx(float(totals.min()), rel=1e-5)
    assert sampled["episode_return_max"] == pytest.approx(float(totals.max()), rel=1e-5)
    for name in ("episode_len_mean", "episode_len_min", "episode_len_max"):
        assert sampled[name] == SESSIONS
    for index, mandate in enumerate(two_and_two.society.mandates):
        mean = pytest.approx(float(returns[:, index].mean()), rel=1e-5)
        assert sampled["agent_episode_returns_mean"][mandate.name] == mean
        assert sampled["module_episode_returns_mean"][mandate.policy] == mean
        assert sampled["agent_steps"][mandate.name] == SESSIONS
        for counted in ("num_agent_steps_sampled", "num_module_steps_sampled"):
            name = mandate.name if "agent" in counted else mandate.policy
            assert sampled[counted][name] == 2 * SESSIONS * ENVIRONMENTS
            assert sampled[f"{counted}_lifetime"][name] == 2 * 2 * SESSIONS * ENVIRONMENTS
    assert sampled["num_env_steps_sampled"] == 2 * SESSIONS * ENVIRONMENTS
    assert result["num_env_steps_sampled_lifetime"] == 2 * 2 * SESSIONS * ENVIRONMENTS
    assert sampled["num_episodes"] == 2 * ENVIRONMENTS
    assert sampled["num_episodes_lifetime"] == 2 * 2 * ENVIRONMENTS
    rate = sampled["num_env_steps_sampled_lifetime_throughput"]["throughput_since_last_reduce"]
    assert rate == pytest.approx(2 * SESSIONS * ENVIRONMENTS / seconds, rel=0.3)
    assert sampled["weights_seq_no"] == 1
    assert two_and_two.agent_steps == 2 * 2 * STEPS


def test_learners_share_the_rows_and_end_with_the_same_weights(two_and_two: Any) -> None:
    import ray

    before = weights_of(two_and_two)
    learned = two_and_two.iterate()["learners"]
    for policy in two_and_two.society.policies:  # 2 runners x 2 epochs; twice that if duplicated
        assert learned[policy]["num_module_steps_trained"] == 2 * 2 * DAYS
    one, two = ray.get(
        [learner.get_state.remote("rl_module") for learner in learners_of(two_and_two)]
    )
    read = weights_of(two_and_two)
    for policy, tensors in read.items():
        for name, value in tensors.items():
            ours = one["rl_module"][policy][f"network.{name}"]
            assert np.array_equal(ours, two["rl_module"][policy][f"network.{name}"])
            assert np.array_equal(ours, value)
        assert any(not torch.equal(value, before[policy][n]) for n, value in tensors.items())


# --- deaths


def assert_plays_as_by_hand(trainer: Any, index: int) -> None:
    """Assert that a runner has the current weights and their version."""
    import ray

    batch, _ = ray.get(runners_of(trainer)[index].play.remote(trainer._algorithm._weights))
    with torch.no_grad():
        expected = by_hand(trainer, index).batches()
    for policy, columns in expected.items():
        for name, column in columns.items():
            np.testing.assert_array_equal(batch.policy_batches[policy][name], column.numpy())


def test_a_runner_that_dies_costs_its_samples_and_another_takes_its_place(two_and_two: Any) -> None:
    before, died = two_and_two.agent_steps, runners_of(two_and_two)[1]
    kill(died)
    two_and_two.iterate()
    assert two_and_two.agent_steps == before + STEPS
    deadline, steps = time.monotonic() + 60.0, before + STEPS
    while two_and_two.agent_steps != steps + 2 * STEPS:
        steps = two_and_two.agent_steps
        assert time.monotonic() < deadline
        two_and_two.iterate()
    assert runners_of(two_and_two)[1] != died
    assert_plays_as_by_hand(two_and_two, 1)


def test_a_run_whose_runners_all_die_at_once_ends_with_all_its_steps(two_and_two: Any) -> None:
    import ray

    runners = runners_of(two_and_two)
    kill(runners[1])
    ray.kill(runners[2])
    budget = two_and_two.agent_steps + 6 * STEPS
    two_and_two.settings = replace(two_and_two.settings, steps=budget)
    while not two_and_two.finished:
        before = two_and_two.agent_steps
        result = two_and_two.iterate()
        assert two_and_two.agent_steps - before in (STEPS, 2 * STEPS)
        assert np.isfinite(result["env_runners"]["episode_return_mean"])


def test_an_error_of_ours_in_a_runner_is_raised_and_not_taken_for_a_death(two_and_two: Any) -> None:
    import ray

    algorithm, good = two_and_two._algorithm, two_and_two._algorithm._weights
    algorithm._weights = ray.put({"rl_module": {"balanced": {}}, "weights_seq_no": 3})
    try:
        with pytest.raises(ValueError, match="missing keys"):
            two_and_two.iterate()
    finally:
        algorithm._weights = good
        algorithm.restore_env_runners(algorithm.env_runner_group)


def test_a_learner_that_dies_ends_the_run_in_a_line_and_at_once(two_and_two: Any) -> None:
    kill(learners_of(two_and_two)[1])
    started = time.monotonic()
    with pytest.raises(ActorsLostError, match=r"^one of 2 learners died$"):
        two_and_two.iterate()
    assert time.monotonic() - started < 20.0
