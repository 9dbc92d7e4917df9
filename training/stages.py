"""The two trained stages of a pass: supervised warm start, then reinforcement learning."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.networks import PolicyNetwork
from training.checkpoint import Checkpoint
from training.leaving import Notice
from training.placement import require_room
from training.progress import Narrator
from training.seeds import seed_of
from training.settings import (
    ClusterSettings,
    NoAlgorithm,
    NoPretrain,
    RankerSettings,
    RLSettings,
)
from training.society import Society
from training.tracking import Tracker
from training.warm_start import warm_start

if TYPE_CHECKING:
    from training.algorithm import Trainer

POLICY_NUMBERS = {  # ours -> RLlib's
    "policy_loss": "policy_loss",
    "vf_loss": "vf_loss",
    "vf_explained_var": "vf_explained_var",
    "mean_kl_loss": "mean_kl_loss",
    "entropy": "entropy",
    "anchor": "anchor",
    "total_loss": "total_loss",
    "gradient_norm": "gradients_default_optimizer_global_norm",
}


class Stages:
    """Trains the stages of one run, tells how far they are, and remembers what is done.

    Args:
        society: market, mandates and network shape.
        pretrain: of the warm start.
        algorithm: of reinforcement learning.
        cluster: where it runs.
        seed: root of the seed tree.
        checkpoint: of the run.
        narrator: for people.
        tracker: for numbers.
    """

    def __init__(
        self,
        society: Society,
        pretrain: RankerSettings | NoPretrain,
        algorithm: RLSettings | NoAlgorithm,
        cluster: ClusterSettings,
        seed: int,
        checkpoint: Checkpoint,
        narrator: Narrator,
        tracker: Tracker,
    ) -> None:
        self._society = society
        self._pretrain, self._algorithm = pretrain, algorithm
        self._cluster, self._seed = cluster, seed
        self._checkpoint, self._narrator, self._tracker = checkpoint, narrator, tracker

    def untrained(self) -> dict[str, PolicyNetwork]:
        """Return the networks that every pass starts from."""
        return self._society.new_networks(self._seed)

    def warm_start(self, part: str, rows: slice) -> dict[str, PolicyNetwork] | None:
        """Return the networks after supervision on the rows; None where there is none."""
        settings = self._pretrain
        if isinstance(settings, NoPretrain):
            return None

        def train() -> dict[str, PolicyNetwork]:
            networks = self.untrained()
            market, seed = self._society.market, seed_of(self._seed, part)
            self._narrator.phase(f"{part} pass, warm start", len(networks))
            for done, (policy, network) in enumerate(networks.items(), start=1):
                loss = warm_start({policy: network}, market, rows, settings, seed)[policy]
                self._tracker.log({f"{part}/policies/{policy}/warm_start_loss": loss})
                self._narrator.advance(done, f"squared error {loss:.4f}")
            return networks

        return self._checkpoint.networks(f"{part}-warm_start", train)

    def reinforce(
        self, part: str, rows: slice, start: Mapping[str, PolicyNetwork]
    ) -> dict[str, PolicyNetwork] | None:
        """Return the networks after reinforcement learning on the rows; None where there is none.

        An interruption leaves a state in the checkpoint from which the same call goes on.
        """
        settings = self._algorithm
        if isinstance(settings, NoAlgorithm):
            return None

        def train() -> dict[str, PolicyNetwork]:
            from training.algorithm import Trainer  # here: RLlib takes seconds to import

            require_room(settings, self._cluster, self._narrator.say)
            seed = seed_of(self._seed, part, "rl")
            trainer = Trainer(self._society, start, rows, settings, seed)
            try:
                return self._spend_budget(trainer, f"{part}-rl", part, settings)
            finally:
                trainer.stop()

        return self._checkpoint.networks(f"{part}-rl", train)

    def _spend_budget(
        self, trainer: "Trainer", name: str, part: str, settings: RLSettings
    ) -> dict[str, PolicyNetwork]:
        """Iterate until the agent steps are spent, with a state left behind now and then."""
        before = self._checkpoint.running(name)
        if before is not None:
            trainer.restore(before)
        title = f"{part} pass, {settings.name}"
        self._narrator.phase(title, settings.steps, trainer.agent_steps)
        saved, notice = time.monotonic(), Notice(trainer.nodes())
        with notice.deferring():
            while not trainer.finished:
                self._iterate(trainer, part)
                leave = notice.given()
                if leave or time.monotonic() - saved > settings.checkpoint_seconds:
                    self._checkpoint.save_running(name, trainer.save)
                    saved = time.monotonic()
                if leave:
                    notice.obey()
        return trainer.networks()

    def _iterate(self, trainer: "Trainer", part: str) -> None:
        steps, started = trainer.agent_steps, time.monotonic()
        result = trainer.iterate()
        rate = (trainer.agent_steps - steps) / (time.monotonic() - started)
        numbers = iteration_numbers(part, result, list(self._society.policies))
        numbers[f"{part}/agent_steps"] = float(trainer.agent_steps)
        numbers[f"{part}/agent_steps_per_second"] = rate
        self._tracker.log({key: value for key, value in numbers.items() if math.isfinite(value)})
        mean = numbers[f"{part}/episode_return_mean"]
        self._narrator.advance(
            trainer.agent_steps, f"{rate:,.0f} agent steps/s, episode return {mean:+.3f}"
        )


def iteration_numbers(
    part: str, result: Mapping[str, Any], policies: list[str]
) -> dict[str, float]:
    """Return what is tracked of one of RLlib's results, by the keys of `tracking.KEYS`."""
    sampled, timers = result["env_runners"], result["timers"]
    numbers = {
        f"{part}/sampling_seconds": timers["env_runner_sampling_timer"],
        f"{part}/learning_seconds": timers["learner_update_timer"],
        f"{part}/episode_return_mean": sampled["episode_return_mean"],
    }
    for agent, mean in sampled["agent_episode_returns_mean"].items():
        numbers[f"{part}/agents/{agent}/episode_return_mean"] = mean
    for policy in policies:
        learned = result["learners"][policy]
        for ours, theirs in POLICY_NUMBERS.items():
            numbers[f"{part}/policies/{policy}/{ours}"] = learned[theirs]
    return {key: float(value) for key, value in numbers.items()}
