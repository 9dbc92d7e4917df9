"""`tercet bench`: measure what each part costs; the last line of stdout is one JSON object."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from agents.observation import ObservationSpec
from agents.policies import ArtefactPolicy, ChampionPolicy
from benchmarks.measure import Result, record, show, table
from cli.config import BenchConfig
from cli.verbs import verb
from envs.batch import BatchEnv
from envs.market_env import MarketEnv
from market.build import build
from market.dataset import Dataset
from market.errors import InputError
from training.configuration import Configuration
from training.society import Society
from training.train import make_society


class Bench:
    """What the benchmarks are run with, each part built when it is first asked for."""

    def __init__(self, config: BenchConfig) -> None:
        self.repeats, self.threads = config.repeats, config.threads
        self.processes = config.processes
        self.device = _device(config.device)
        self.serving, self.trained = config.serving, _trained(config.policy)
        self.limits, self.execution = config.gateway, config.execution
        self.configuration: Configuration = config.configuration()

    @cached_property
    def data(self) -> Dataset:
        """Return the market with its features."""
        config = self.configuration
        return build(config.market, config.quality, config.features)

    @cached_property
    def society(self) -> Society:
        """Return the agents, their market in this machine's memory."""
        return make_society(self.data, self.configuration)

    def env(self, compiled: bool) -> BatchEnv:
        """Return new environments over the train rows, on the device."""
        return self._env(self.society.on(self.device), compiled)

    def market_env(self, compiled: bool) -> MarketEnv:
        """Return a new PettingZoo environment; one alone is too small for any device but a CPU."""
        market = self.society.market
        spec = ObservationSpec(
            n_assets=market.n_assets,
            asset_features=market.asset_features.shape[-1],
            market_features=market.market_features.shape[-1],
            clip=self.data.features.clip,
        )
        return MarketEnv(self._env(self.society, compiled), spec)

    def _env(self, society: Society, compiled: bool) -> BatchEnv:
        settings = replace(society.settings, compile=compiled)
        return replace(society, settings=settings).env(self.data.train)


def _kernel(bench: Bench) -> Result:
    from benchmarks import kernel

    processes = bench.processes if bench.device == "cpu" else 1
    return kernel.run(bench.env, bench.device, bench.repeats, processes=processes)


def _pettingzoo(bench: Bench) -> Result:
    from benchmarks import pettingzoo

    return pettingzoo.run(bench.market_env, bench.repeats)


def _sample(bench: Bench) -> Result:
    with _ray():
        from benchmarks import sample

        return sample.run(bench.configuration, bench.data, bench.repeats, bench.threads)


def _train(bench: Bench) -> Result:
    with _ray():
        from benchmarks import train

        return train.run(bench.configuration, bench.data, bench.repeats, bench.threads)


def _features(bench: Bench) -> Result:
    from benchmarks import features

    return features.run(bench.repeats)


def _backtest(bench: Bench) -> Result:
    from benchmarks import backtest

    config = bench.configuration
    return backtest.run(bench.society, bench.data, config.ensemble, config.seed, bench.repeats)


def _scaling(bench: Bench) -> Result:
    from benchmarks import scaling

    return scaling.run(bench.device, bench.repeats)


def _equal_steps(bench: Bench) -> Result:
    with _ray():
        from benchmarks import equal_steps

        command = shlex.join(sys.argv)
        return equal_steps.run(
            bench.configuration, bench.data, bench.repeats, bench.threads, command
        )


def _serve(bench: Bench) -> Result:
    from benchmarks import serve, untrained
    from serving.blueprint import Blueprint

    config, data = bench.configuration, bench.data
    with TemporaryDirectory() as name:
        folder, policy = Path(name), bench.trained
        start = [word for word in sys.argv[1:] if SERVED.match(word)]
        if policy is None:
            policy = ArtefactPolicy(str(folder / "artefact"))
            untrained.save(folder / "artefact", bench.society, data, config)
            start += ["policy=artefact", f"policy.path={policy.path}"]
        plan = Blueprint(config.market, config.quality, config.env, policy, bench.serving)
        return serve.run(plan, str(data.bars.dates[-1]), folder, start, bench.repeats)


def _parity(bench: Bench) -> Result:
    from agents.registry import artefact_of
    from benchmarks import parity

    folder = None if bench.trained is None else artefact_of(bench.trained)
    return parity.run(bench.configuration, folder, bench.serving.desk)


def _encoding(bench: Bench) -> Result:
    from benchmarks import encoding

    return encoding.run(bench.society, bench.repeats)


def _gateway(bench: Bench) -> Result:
    from benchmarks import gateway

    config = bench.configuration
    return gateway.run(bench.limits, bench.execution, config.market, config.quality)


def _orders(bench: Bench) -> Result:
    from benchmarks import order_paths

    return order_paths.run()


def _cluster(bench: Bench) -> Result:
    with _ray():
        from benchmarks import cluster

        return cluster.run(bench.configuration, bench.data, bench.repeats, bench.threads)


class Benchmark(NamedTuple):
    """One name of `tercet bench`."""

    does: str
    run: Callable[[Bench], Result]
    apart: bool = False  # `all` leaves it out: it takes minutes and reads the test window
    cpu: bool = False  # it runs on the CPU, whatever the device


BENCHMARKS: Mapping[str, Benchmark] = {
    "kernel": Benchmark("steps of the batched environment: agent-steps a second", _kernel),
    "pettingzoo": Benchmark("steps of one PettingZoo environment", _pettingzoo, cpu=True),
    "sample": Benchmark("sampling, beside RLlib's default path", _sample),
    "train": Benchmark("training end to end, beside RLlib's default path", _train),
    "cluster": Benchmark("training with 0, 1 and 2 remote samplers, and what they send", _cluster),
    "encoding": Benchmark("what encoding a day once for all its books saves", _encoding, cpu=True),
    "features": Benchmark("features of a large market: time and memory", _features, cpu=True),
    "backtest": Benchmark("a backtest beside all baselines", _backtest, cpu=True),
    "serve": Benchmark(
        "the allocation over HTTP, beside an empty Ray Serve application", _serve, cpu=True
    ),
    "parity": Benchmark(
        "served weights beside those of the training side: two minutes",
        _parity,
        apart=True,
        cpu=True,
    ),
    "gateway": Benchmark(
        "verdicts, durable baskets, the audit's walk, a start after a kill", _gateway, cpu=True
    ),
    "orders": Benchmark(
        "kills and lost answers against three ways to send orders: ten minutes",
        _orders,
        apart=True,
        cpu=True,
    ),
    "scaling": Benchmark("how time grows with environments, agents, assets ...", _scaling),
    "equal_steps": Benchmark(
        "what `repeats` seeds learn, beside RLlib's default path: many minutes",
        _equal_steps,
        apart=True,
    ),
}
SERVED = re.compile(r"(market|quality|env|policy|serving)\b")  # overrides that tercet serve shares
ALL = "all"
SUBVERBS = {
    **{name: benchmark.does for name, benchmark in BENCHMARKS.items()},
    ALL: "every one that takes no minutes, and one JSON object with all results by name",
}


@verb(BenchConfig)
def main(config: BenchConfig) -> None:
    """Run one benchmark, or all, and print what came out."""
    torch.set_num_threads(config.threads)
    bench = Bench(config)
    if config.subverb != ALL:
        show(_run(config.subverb, bench), _device_of(config.subverb, bench))
        return
    found = {}
    for name in (name for name, benchmark in BENCHMARKS.items() if not benchmark.apart):
        result = _run(name, bench)
        print(name, table(result.columns, result.rows), "", sep="\n", flush=True)
        found[name] = record(result, _device_of(name, bench))
    print(json.dumps(found, allow_nan=False))


def _device_of(name: str, bench: Bench) -> str:
    return "cpu" if BENCHMARKS[name].cpu else bench.device


def _run(name: str, bench: Bench) -> Result:
    """Run a benchmark with everything that it prints sent to stderr."""
    print(f"{name}: {SUBVERBS[name]} ...", file=sys.stderr, flush=True)
    with redirect_stdout(sys.stderr):
        return BENCHMARKS[name].run(bench)


def _device(wanted: str) -> str:
    """Return the torch device to measure on.

    Raises:
        InputError: if it is not there.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise InputError("device=cuda: torch finds no CUDA device on this machine")
    if wanted == "auto":
        return "cuda" if there else "cpu"
    return wanted


def _trained(policy: object) -> ArtefactPolicy | ChampionPolicy | None:
    """Return the policy that is served, or None for one that learned nothing.

    Raises:
        InputError: if it is a rule.
    """
    if policy is None or isinstance(policy, ArtefactPolicy | ChampionPolicy):
        return policy
    raise InputError("only trained policies are served: policy=champion or policy=artefact")


@contextmanager
def _ray() -> Iterator[None]:
    """Start Ray on this machine; what reads its environment is imported after that."""
    from training.local_ray import local_ray

    with local_ray():
        yield
