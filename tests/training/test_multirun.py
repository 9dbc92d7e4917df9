"""Several runs at once: each as if it were alone, and none harmed by the end of another."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from evaluation.run_folder import LOCK, SUMMARY
from market.errors import InputError
from training.configuration import Configuration
from training.multirun import Job, packed, run_all, unpack
from training.settings import ClusterSettings
from training.train import run

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cluster(compose: Callable[..., Any]) -> ClusterSettings:
    chosen: ClusterSettings = compose("cluster=local")["cluster"]
    return chosen


@pytest.fixture
def small(
    configuration: Callable[..., Configuration], compose: Callable[..., Any]
) -> Callable[..., Configuration]:
    """Return a configuration that ends with a warm start which is kept."""

    def build(**changes: Any) -> Configuration:
        config = configuration(algorithm=compose("algorithm=none")["algorithm"])
        kept = replace(config.pretrain, keep_if=float("-inf"))
        return replace(config, **{"pretrain": kept, **changes})

    return build


def job(name: str, config: Configuration, cluster: ClusterSettings) -> Job:
    return Job(name, config, cluster, f"runs/{name}", None, f"tercet train {name}")


def parameters(folder: Path) -> bytes:
    return (folder / "artefact" / "policy.safetensors").read_bytes()


def test_runs_at_the_same_time_end_as_each_does_alone(
    small: Callable[..., Configuration], cluster: ClusterSettings
) -> None:
    said: list[str] = []
    jobs = [job(f"seed={seed}", small(seed=seed), cluster) for seed in (3, 4)]
    outcomes = run_all(jobs, said.append)
    folders = [Path("runs/seed=3"), Path("runs/seed=4")]
    assert [outcome.folder for outcome in outcomes] == folders
    assert sorted(line.split(" runs: ")[0] for line in said) == ["1 of 2", "2 of 2"]
    begun = [(folder / "config.json").stat().st_mtime for folder in folders]
    ended = [(folder / SUMMARY).stat().st_mtime for folder in folders]
    assert max(begun) < min(ended)
    assert parameters(folders[0]) != parameters(folders[1])
    assert Path("runs/latest").resolve() in [folder.resolve() for folder in folders]
    alone, _ = run(small(seed=4), cluster, "alone", None, "tercet train")
    assert parameters(alone) == parameters(folders[1])


def test_a_run_that_is_refused_or_killed_leaves_the_others_alone(
    small: Callable[..., Configuration], cluster: ClusterSettings
) -> None:
    config = small()
    refused = replace(config, market=replace(config.market, train=("2010-01-01", "2010-01-02")))
    jobs = [
        job("killed", config, cluster),
        job("refused", refused, cluster),
        job("whole", config, cluster),
    ]
    killer = threading.Thread(target=kill_the_writer_of, args=(Path("runs/killed").resolve(),))
    killer.start()
    killed, empty, whole = run_all(jobs, lambda _: None)
    killer.join()
    assert killed.line is not None
    assert killed.line.startswith("WorkerCrashedError")
    assert killed.defect is None
    assert empty.line is not None
    assert "train" in empty.line
    assert whole.line is None
    assert whole.summary is not None
    assert (Path("runs/whole") / SUMMARY).exists()


def kill_the_writer_of(folder: Path) -> None:
    """Kill the process that has claimed a run's folder, as soon as there is one."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["name"]):
            try:
                held = process.info["name"].startswith("ray::") and process.open_files()
            except psutil.Error:
                continue
            if any(Path(file.path) == folder / LOCK for file in held or ()):
                process.kill()
                return
        time.sleep(0.02)


def test_a_run_larger_than_the_cluster_is_refused_before_any_begins(
    small: Callable[..., Configuration],
    settings: Callable[..., Any],
    cluster: ClusterSettings,
) -> None:
    huge = small(algorithm=settings("algorithm", "ppo", num_env_runners=64))
    with pytest.raises(InputError, match=r"huge needs 65 CPUs, there are 4; cluster.wait"):
        run_all([job("one", small(), cluster), job("huge", huge, cluster)], lambda _: None)
    assert not Path("runs").exists()


def test_more_runs_than_fit_take_turns_with_their_remote_samplers(
    configuration: Callable[..., Configuration], cluster: ClusterSettings, soak: bool
) -> None:
    """Each needs two of four CPUs: with one for the run alone, three would wait for ever."""
    if not soak:
        pytest.skip("a minute: --soak")
    config = configuration()
    remote = replace(config, algorithm=replace(config.algorithm, num_env_runners=1))
    jobs = [job(f"{n}", remote, cluster) for n in range(3)]
    assert [outcome.line for outcome in run_all(jobs, lambda _: None)] == [None] * 3


def test_what_a_run_left_elsewhere_comes_back_whole_and_its_summary_last(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "artefact").mkdir(parents=True)
    for name in (SUMMARY, "artefact/policy.safetensors", "nav.parquet"):
        (there / name).write_bytes(name.encode() * 1000)
    (there / "latest").symlink_to("/")
    unpack(packed(there), here)
    files = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert files == {SUMMARY, "artefact/policy.safetensors", "nav.parquet"}
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in files)
    with pytest.raises(OSError, match="summary"):
        (here / SUMMARY).unlink()
        (here / SUMMARY).mkdir()  # it cannot be written
        (here / "nav.parquet").unlink()
        unpack(packed(there), here)
    assert (here / "nav.parquet").exists()
