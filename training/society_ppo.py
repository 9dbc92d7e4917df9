"""RLlib's PPO around batched runners, with what to do when an actor dies.

A runner that dies costs its samples: another one of its index takes its place as soon as it
answers. Weights come with every call, so none samples with those that it was made with. A learner
that dies ends the run, which goes on from its last checkpoint.
"""

import logging
import math
import time
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ActorDiedError, RayActorError
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import metrics as keys

from training import columns
from training.placement import ActorsLostError

RESTART_SECONDS = 120.0  # for the first of all runners to come back; a process takes about ten
PROBE_SECONDS = 0.2  # that an iteration waits for runners that are not back yet
POLL_SECONDS = 1.0  # between looks at learners that work

log = logging.getLogger(__name__)


class SocietyPPO(PPO):  # type: ignore[misc]  # RLlib is untyped
    """PPO whose runners return finished batches: sample, update, publish the new weights."""

    def setup(self, config: Any) -> None:
        """Build runners and learners, and publish the weights that they begin with.

        Raises:
            ActorsLostError: if no remote runner can be made, with what the first one says.
        """
        try:
            super().setup(config)
        except IndexError as error:  # RLlib takes the first of no answers
            raise self._unmade() or error from error
        self.publish_weights()

    def training_step(self) -> None:
        """Take one batch from every runner and learn from it."""
        with self.metrics.log_time((keys.TIMERS, keys.ENV_RUNNER_SAMPLING_TIMER)):
            batch, results = self._sample()
            self.metrics.aggregate(results, key=keys.ENV_RUNNER_RESULTS)
        with self.metrics.log_time((keys.TIMERS, keys.LEARNER_UPDATE_TIMER)):
            results = self._learn(batch)
            self.metrics.aggregate(results, key=keys.LEARNER_RESULTS)
        with self.metrics.log_time((keys.TIMERS, keys.SYNCH_WORKER_WEIGHTS_TIMER)):
            self.publish_weights()

    def cleanup(self) -> None:
        """Free all actors; RLlib would wait for the answer of one that waits for a place."""
        for runner in self.env_runner_group._worker_manager.actors().values():
            ray.kill(runner)
        super().cleanup()

    def publish_weights(self) -> None:
        """Put the learners' weights and their version where the runners take them from."""
        component = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        try:
            state = self.learner_group.get_state(components=component, inference_only=True)
        except RayActorError as error:
            raise self._learners_lost() from error
        self._weights = ray.put(state[COMPONENT_LEARNER])

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Take in the replacements that answer by now, and ask for one of each runner that died."""
        manager = env_runner_group._worker_manager
        missing = list(set(manager.actor_ids()) - set(manager.healthy_actor_ids()))
        if not missing:
            return []
        answers = manager.foreach_actor(
            "ping",
            remote_actor_ids=missing,
            healthy_only=False,
            mark_healthy=True,
            timeout_seconds=PROBE_SECONDS,
        )
        for answer in answers:
            if isinstance(answer.get(), ActorDiedError):
                manager.actors()[answer.actor_id] = env_runner_group._make_worker(
                    env_creator=None,
                    validate_env=None,
                    worker_index=answer.actor_id,
                    num_workers=manager.num_actors(),
                    config=env_runner_group._remote_config_obj_ref,
                )
        return [answer.actor_id for answer in answers if answer.ok]

    def _sample(self) -> tuple[MultiAgentBatch, list[Any]]:
        """Return the batch and metrics of all runners that live; of one at least.

        Raises:
            ActorsLostError: if none of them comes back.
        """
        group = self.env_runner_group
        if not group.num_remote_env_runners():
            batch, metrics = group.local_env_runner.play(ray.get(self._weights))
            return batch, [metrics]
        deadline = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < deadline:
            played = self._play(group)
            if played:
                return joined([batch for batch, _ in played]), [metrics for _, metrics in played]
            self.restore_env_runners(group)
        raise ActorsLostError(
            f"all {group.num_remote_env_runners()} env runners died and none was back within "
            f"{RESTART_SECONDS:.0f} s"
        )

    def _play(self, group: EnvRunnerGroup) -> list[tuple[MultiAgentBatch, Any]]:
        """Let all healthy runners play at once; their own errors are raised, their deaths not."""
        played = []
        for answer in group._worker_manager.foreach_actor("play", kwargs={"state": self._weights}):
            if answer.ok:
                played.append(answer.get())
            elif isinstance(answer.get(), RayActorError):
                log.warning("env runner %d died; another one takes its place", answer.actor_id)
            else:
                raise answer.get()
        return played

    def _unmade(self) -> ActorsLostError | None:
        """Return why the first remote runner was not made; None if it was."""
        first = next(iter(self.env_runner_group._worker_manager.actors().values()))
        try:
            ray.get(first.ping.remote())
        except RayActorError as error:
            why = str(error).strip().splitlines()[-1].strip()
            return ActorsLostError(f"no env runner could be made: {why}")
        return None

    def _learn(self, batch: MultiAgentBatch) -> list[Any]:
        """Update the weights from one batch, which remote learners share out among themselves."""
        epochs, size = self.config.num_epochs, self.config.minibatch_size
        group = self.learner_group
        if group.is_local:
            results: list[Any] = group.update(batch=batch, num_epochs=epochs, minibatch_size=size)
            return results
        group.update(
            batches=shards(batch, len(group)),
            num_epochs=epochs,
            minibatch_size=math.ceil(size / len(group)),
            async_update=True,
        )
        return self._learned()

    def _learned(self) -> list[Any]:
        """Wait for all learners, but not for the others of one that died.

        RLlib's own waiting ends with the last answer, and the others wait for the dead one in the
        exchange of gradients until its time is up.
        """
        results: list[Any] = []
        while len(results) < len(self.learner_group):
            manager = self.learner_group._worker_manager
            for answer in manager.fetch_ready_async_reqs(timeout_seconds=POLL_SECONDS):
                if not answer.ok:
                    raise self._failure(answer.get())
                results.append(answer.get())
        return results

    def _failure(self, error: Exception) -> Exception:
        """Return why an update failed: an error of ours, or what a death did to the others."""
        if isinstance(error, RayActorError):
            return self._learners_lost()
        alive = self.learner_group.foreach_learner(
            lambda learner: learner.ping(), healthy_only=False, timeout_seconds=5 * POLL_SECONDS
        )
        answered = sum(answer.ok for answer in alive)
        return error if answered == len(self.learner_group) else self._learners_lost()

    def _learners_lost(self) -> ActorsLostError:
        """Free the learners that are left, which may wait for the dead one."""
        for learner in self.learner_group._worker_manager.actors().values():
            ray.kill(learner)
        return ActorsLostError(f"one of {len(self.learner_group)} learners died")


def joined(parts: list[MultiAgentBatch]) -> MultiAgentBatch:
    """Return the rows of all remote runners' batches as one, in tensors."""
    return MultiAgentBatch(
        {
            policy: SampleBatch(
                {
                    name: torch.from_numpy(
                        np.concatenate([part.policy_batches[policy][name] for part in parts])
                    )
                    for name in names
                }
            )
            for policy, names in parts[0].policy_batches.items()
        },
        env_steps=sum(part.env_steps() for part in parts),
    )


def shards(batch: MultiAgentBatch, count: int) -> list[MultiAgentBatch]:
    """Split the rows of a batch over learners, each row to one of them, as arrays.

    Learners meet after every minibatch, so all get the same number of rows: where the rows do not
    divide, a dead one, which no loss counts, fills up a shard.
    """
    each = math.ceil(_rows(batch) / count)

    def part(values: SampleBatch, index: int) -> SampleBatch:
        mine = torch.arange(index, len(values[columns.DAY]), count)
        filled = torch.cat([mine, mine.new_zeros(each - len(mine))])
        taken = {name: column[filled].cpu().numpy() for name, column in values.items()}
        taken[columns.ALIVE][len(mine) :] = False
        return SampleBatch(taken)

    return [
        MultiAgentBatch(
            {policy: part(values, index) for policy, values in batch.policy_batches.items()},
            env_steps=each,
        )
        for index in range(count)
    ]


def _rows(batch: MultiAgentBatch) -> int:
    return len(next(iter(batch.policy_batches.values()))[columns.DAY])
