"""Settings of the training stages: what each value means and which values are refused."""

import math
from dataclasses import dataclass


def _require(holds: bool, key: str, allowed: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{key} must be {allowed}, was {value}")


@dataclass(slots=True)
class NoPretrain:
    """Networks start from their random parameters."""


@dataclass(slots=True)
class RankerSettings:
    """Supervised warm start: rank the assets by what they earn beyond the market."""

    horizon: int  # sessions of the label, >= 1
    updates: int  # optimiser steps, >= 1
    batch_days: int  # days per step, >= 1
    learning_rate: float  # at the first step; falls to 0 along a cosine, > 0
    weight_decay: float  # decoupled, >= 0
    keep_if: float  # standard errors over the rule in the inner validation; -inf always keeps

    def __post_init__(self) -> None:
        for name in ("horizon", "updates", "batch_days"):
            _require(getattr(self, name) >= 1, f"pretrain.{name}", ">= 1", getattr(self, name))
        _require(self.learning_rate > 0.0, "pretrain.learning_rate", "> 0", self.learning_rate)
        _require(self.weight_decay >= 0.0, "pretrain.weight_decay", ">= 0", self.weight_decay)
        _require(not math.isnan(self.keep_if), "pretrain.keep_if", "a number", self.keep_if)


@dataclass(slots=True)
class NoAlgorithm:
    """Training ends with the warm start."""


@dataclass(slots=True)
class RLSettings:
    """Policy-gradient training on RLlib: PPO, or A2C (one epoch, no clipping)."""

    name: str  # for reports
    steps: int  # agent steps of one pass, all environments and agents together, >= 1
    learning_rate: float  # Adam, > 0
    clip: float | None  # of each action component's probability ratio, > 0; absent: none
    gamma: float  # discount per session, in (0, 1)
    gae_lambda: float  # in [0, 1]
    score_noise: float  # standard deviation of the exploration of a score at first, > 0
    exposure_noise: float  # likewise of the exposure, > 0
    epochs: int  # passes over each batch, >= 1
    minibatch_days: int  # day slots per update of all learners, each with all its books, >= 1
    anchor: float  # weight of KL(tilted portfolio || base portfolio), >= 0
    value_weight: float  # of the value function's squared error, >= 0
    reward_scale: float  # brings O(0.01) rewards to order one for the value function, > 0
    grad_clip: float  # global norm per policy, > 0
    bfloat16: bool  # encode days in bfloat16: halves the time of a wide network, not of a small one
    starts: int  # distinct episode starts per runner and batch, >= 1
    replicas: int  # environments per start: the same days under other actions, >= 2
    num_env_runners: int | None  # remote samplers; 0: this process; null: as the cluster has room
    num_cpus_per_env_runner: float  # that a remote sampler occupies, >= 0
    num_gpus_per_env_runner: float  # likewise, in [0, 1]; 0 lets it sample on its CPU
    num_learners: int | None  # remote learners, a CPU or GPU each; 0: this process; null: likewise
    device: (
        str  # of environments and learners: cpu, cuda, or auto, which is cuda where there is one
    )
    keep_if: float  # standard errors over the warm start in the inner validation
    checkpoint_seconds: float  # between periodic checkpoints, > 0

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "minibatch_days", "starts"):
            _require(getattr(self, name) >= 1, f"algorithm.{name}", ">= 1", getattr(self, name))
        for name in (
            "learning_rate",
            "score_noise",
            "exposure_noise",
            "reward_scale",
            "grad_clip",
            "checkpoint_seconds",
        ):
            _require(getattr(self, name) > 0.0, f"algorithm.{name}", "> 0", getattr(self, name))
        for name in (
            "anchor",
            "value_weight",
            "num_env_runners",
            "num_cpus_per_env_runner",
            "num_learners",
        ):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"algorithm.{name}", ">= 0", value)
        _require(self.clip is None or self.clip > 0.0, "algorithm.clip", "> 0", self.clip)
        _require(0.0 < self.gamma < 1.0, "algorithm.gamma", "in (0, 1)", self.gamma)
        _require(
            0.0 <= self.gae_lambda <= 1.0, "algorithm.gae_lambda", "in [0, 1]", self.gae_lambda
        )
        _require(self.replicas >= 2, "algorithm.replicas", ">= 2", self.replicas)
        _require(
            0.0 <= self.num_gpus_per_env_runner <= 1.0,
            "algorithm.num_gpus_per_env_runner",
            "in [0, 1]",
            self.num_gpus_per_env_runner,
        )
        _require(
            self.device in ("auto", "cpu", "cuda"),
            "algorithm.device",
            "auto, cpu or cuda",
            self.device,
        )
        _require(not math.isnan(self.keep_if), "algorithm.keep_if", "a number", self.keep_if)


@dataclass(slots=True)
class ClusterSettings:
    """The machines that Ray spreads remote samplers and learners over."""

    join: bool  # the Ray that runs already, if any; otherwise one is started on this machine
    wait: bool  # for room on the cluster, instead of refusing a run that it cannot place now
    checkpoints: str | None  # fsspec address that gets a copy of every checkpoint; null: none does


@dataclass(slots=True)
class SelectionSettings:
    """The inner validation that decides which stages are kept."""

    validation_fraction: float  # of the train rows, the last ones, in (0, 0.5]
    embargo: int  # sessions between inner training and validation, >= 0

    def __post_init__(self) -> None:
        _require(
            0.0 < self.validation_fraction <= 0.5,
            "selection.validation_fraction",
            "in (0, 0.5]",
            self.validation_fraction,
        )
        _require(self.embargo >= 0, "selection.embargo", ">= 0", self.embargo)


@dataclass(slots=True)
class NoTracking:
    """Nothing is tracked beyond the run folder."""


@dataclass(slots=True)
class WandbSettings:
    """Weights & Biases: offline into the run folder, online where WANDB_API_KEY is set."""

    project: str
    experiment: str | None  # group of this run; null is the run alone, or all of a multirun
    fold: str | None  # of the data, where an experiment has several
    trial: str | None  # of a search
