"""Three hosts, Ray's own launcher, and a run that outlives a worker and the head.

The on-premise variant of `cluster.yaml` as it is printed, but for addresses, key and files. Nothing
of a host is simulated but its hardware: see `hosts.py`.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest

from agents import artefact
from cli.cluster_file import content
from cli.config import ClusterFileConfig, register
from market.compose import CONF, typed
from tests.cluster.hosts import Host, hosts, missing, ssh
from tests.training.test_tracking import values, whole_records

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
RUNNER = "ray::SocietyRunner"
STEPS = 30_000
BATCH = 2 * 3 * 2 * 4 * 21  # agent steps: runners x agents x starts x replicas x sessions
TRAIN = (
    "market=synthetic market.sessions=800 market.assets=5 market.cache=null network.members=2 "
    "env.episode_sessions=21 pretrain.updates=5 algorithm.starts=2 algorithm.replicas=4 "
    f"algorithm.minibatch_days=21 algorithm.checkpoint_seconds=1 algorithm.steps={STEPS}"
)
UP_WITHIN_S, RUNNING_WITHIN_S, MISSED_WITHIN_S = 180.0, 120.0, 60.0
ENDS_WITHIN_S, DOWN_WITHIN_S = 300.0, 60.0

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(missing() is not None, reason=f"no hosts here: {missing()}"),
]


class Cluster:
    """A cluster of hosts, seen from the machine of the one who uses it.

    Args:
        machines: the head first.
        folder: with their key; the file and the token are written there.
    """

    def __init__(self, machines: list[Host], folder: Path) -> None:
        self.machines, self.folder = machines, folder
        self.head, *self.workers = machines
        self.file = folder / "on_premise.yml"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self._write(token)
        self._environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder),  # where the launcher keeps what it knows of the cluster
        }

    def up(self) -> None:
        """Run `ray up` and wait until every machine that can be reached belongs to the cluster."""
        started = time.monotonic()
        self.ray("up", "--yes", "--no-config-cache", str(self.file))
        print(f"ray up: {time.monotonic() - started:.0f} s")
        self.wait(lambda: self.nodes() == len(self.machines), UP_WITHIN_S, "all nodes")

    def nodes(self, environment: str = "") -> int:
        """Return how many living nodes the head tells one with these variables of; 0 if none."""
        done = self.on_head(f"{environment}ray list nodes --format json --filter state=ALIVE")
        return done.count('"node_id"')

    def on_head(self, command: str) -> str:
        """Run a command on the head as the launcher does and return its output."""
        words = ssh(self.head, self.folder, f"bash --login -c -i '{command}' 2>/dev/null")
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    def train(self, *overrides: str) -> "subprocess.Popen[bytes]":
        """Start a run on the head."""
        arguments = f"cluster=auto {TRAIN} {' '.join(overrides)}"
        command = f"cd ~/tercet && tercet train {arguments} > ~/run.log 2>&1"
        return subprocess.Popen(
            [RAY, "exec", "--no-config-cache", str(self.file), command],
            env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def log(self) -> str:
        """Return what the last run has said."""
        return (self.head.home / "run.log").read_text()

    def state(self, part: str) -> bool:
        """Return whether a run has left a state of a part of it."""
        runs = self.head.home / "tercet/runs"
        return any(runs.glob(f"*/checkpoint/{part}.state-*"))

    def summary(self) -> Path:
        """Return the path of the summary of the newest run."""
        runs = (self.head.home / "tercet/runs").glob("*/config.json")
        return max(runs, key=lambda path: path.stat().st_mtime).parent / "summary.json"

    def final_steps(self) -> list[list[float]]:
        """Return the agent steps after each iteration of the newest run's last pass, per start."""
        return [
            [
                row["final/agent_steps"]
                for record in whole_records(path.read_bytes())
                if "final/agent_steps" in (row := values(record.history.item))
            ]
            for path in sorted(self.summary().parent.glob("wandb/offline-run-*/*.wandb"))
        ]

    def sampling(self) -> list[Host]:
        """Return the hosts on which env runners run."""
        return [host for host in self.machines if host.runs(RUNNER)]

    def wait(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait until something holds, and print how long it took."""
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > within_s:
                raise TimeoutError(
                    f"{what}: not within {within_s:.0f} s\n{self.on_head('ray status')}"
                )
            time.sleep(0.5)
        print(f"{what}: {time.monotonic() - started:.0f} s")

    def ray(self, *words: str) -> None:
        """Run one of the launcher's commands."""
        done = subprocess.run(
            [RAY, *words], env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    def _write(self, token: Path) -> None:
        register()
        overrides = [
            "provider=on_premise",
            f"provider.head={self.head.address}",
            f"provider.runners=[{','.join(host.address for host in self.workers)}]",
            "provider.ssh_user=root",
            f"provider.ssh_key={self.folder / 'key'}",
            f"provider.python={sys.executable}",
            f"token={token}",
            f"repository={REPOSITORY}",
        ]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("cluster_file", overrides=overrides)
        self.file.write_text(content(typed(composed, ClusterFileConfig)))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    wheels = tmp_path_factory.mktemp("wheels")
    _run("pip", "download", "--quiet", "--dest", str(wheels), "hatchling", "editables")
    with hosts(3, folder, lambda home: _furnish(home, wheels)) as machines:
        made = Cluster(machines, folder)
        made.up()
        yield made


def _furnish(home: Path, wheels: Path) -> None:
    """Give a host what it would fetch: hosts here reach no registry. And one CPU to hand out."""
    _run("venv", "--without-pip", str(home / "venv"))
    packages = next((home / "venv/lib").glob("python*/site-packages"))
    (packages / "fetched.pth").write_text(str(Path(pytest.__file__).parents[1]))
    for name in ("pip", "ray"):
        _, _, script = (Path(sys.executable).parent / name).read_text().partition("\n")
        program = home / "venv/bin" / name
        program.write_text(f"#!{Path.home()}/venv/bin/python\n{script}")
        program.chmod(0o755)
    settings = home / ".config/pip/pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
    (home / ".bashrc").write_text("export RAY_OVERRIDE_RESOURCES='{\"CPU\": 1}'\n")


def _run(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", module, *words], check=True, capture_output=True)


def test_nobody_without_the_token_is_let_in(cluster: Cluster) -> None:
    assert cluster.nodes() == 3
    assert cluster.nodes("RAY_AUTH_TOKEN=guessed ") == 0
    assert cluster.nodes("RAY_AUTH_MODE=disabled ") == 0


def test_the_dashboard_answers_on_the_heads_own_loopback_alone(cluster: Cluster) -> None:
    asked = "curl --silent --output /dev/null --write-out %{{http_code}} http://{}:8265/"
    assert cluster.on_head(asked.format("127.0.0.1")) not in ("", "000")
    assert cluster.on_head(asked.format(cluster.head.address)) == "000"


def test_a_run_uses_all_hosts_and_ends_with_all_its_steps_though_one_is_cut_off(
    cluster: Cluster,
) -> None:
    with cluster.train("seed=1") as run:
        cluster.wait(lambda: cluster.state("inner-rl"), RUNNING_WITHIN_S, "a first state")
        sampling = cluster.sampling()
        assert len(sampling) >= 2
        lost = next(host for host in sampling if host is not cluster.head)
        lost.cable(False)
        try:
            cluster.wait(lambda: cluster.nodes() == 2, MISSED_WITHIN_S, "a host missed")
            cluster.wait(lambda: run.poll() is not None, ENDS_WITHIN_S, "the end")
        finally:
            lost.cable(True)
    assert run.returncode == 0, cluster.log()
    assert "2 remote samplers" in cluster.log()
    assert cluster.summary().exists()
    (steps,) = cluster.final_steps()
    assert steps[-1] >= STEPS


def test_a_run_whose_head_is_killed_goes_on_after_the_next_ray_up(cluster: Cluster) -> None:
    with cluster.train("seed=2"):
        cluster.wait(lambda: cluster.state("final-rl"), ENDS_WITHIN_S, "a state of the final pass")
        cluster.head.kill()
    assert not cluster.summary().exists()
    cluster.up()
    with cluster.train("seed=2", "resume=auto") as run:
        cluster.wait(lambda: run.poll() is not None, ENDS_WITHIN_S, "the end")
    assert run.returncode == 0, cluster.log()
    assert "inner pass, ppo ..." not in cluster.log()  # what was done is not done again
    assert "resume=auto: runs/" in cluster.log()
    assert cluster.summary().exists()
    after = cluster.final_steps()[-1]
    assert after[0] > BATCH  # not from the beginning
    assert after[-1] >= STEPS


def test_the_artefact_is_fetched_whole_and_ray_down_ends_the_head(cluster: Cluster) -> None:
    fetched = cluster.folder / "fetched"
    cluster.ray("rsync-down", str(cluster.file), "~/tercet/runs/latest/", str(fetched))
    there = artefact.load(cluster.summary().parent / "artefact")
    assert artefact.load(fetched / "artefact").sha256 == there.sha256
    assert cluster.head.runs("raylet")
    cluster.ray("down", "--yes", str(cluster.file))
    cluster.wait(lambda: not cluster.head.runs("raylet"), DOWN_WITHIN_S, "ray down")
