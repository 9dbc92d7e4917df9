"""Three hosts, Ray's own launcher, and a run that outlives a worker and the head.

The on-premise variant of `cluster.yaml` as it is printed, but for addresses, key and files. Nothing
of a host is simulated but its hardware: see `hosts.py`.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
import yaml

from cli.cluster_file import content
from cli.config import ClusterFileConfig, register
from market.compose import CONF, typed
from tests.cluster.hosts import Host, hosts, missing, ssh

REPOSITORY = Path(__file__).resolve().parents[2]
RUNNER = "ray::SocietyRunner"
STEPS = 400_000
TRAIN = (
    "market=synthetic market.sessions=800 market.assets=5 market.cache=null network.members=2 "
    "env.episode_sessions=21 pretrain.updates=5 algorithm.starts=2 algorithm.replicas=4 "
    f"algorithm.minibatch_days=21 algorithm.checkpoint_seconds=1 algorithm.steps={STEPS}"
)
UP_WITHIN_S, RUNNING_WITHIN_S, ENDS_WITHIN_S = 120.0, 90.0, 240.0

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
        self._ray("up", "--yes", "--no-config-cache", str(self.file))
        self.wait(lambda: self.nodes() == len(self.machines), UP_WITHIN_S, "all nodes")

    def nodes(self) -> int:
        """Return how many living nodes the head counts."""
        done = self.on_head("ray list nodes --format json --filter state=ALIVE 2>/dev/null")
        return done.count('"node_id"')

    def on_head(self, command: str) -> str:
        """Run a command on the head as the launcher does and return its output."""
        words = ssh(self.head, self.folder, f"bash --login -c -i '{command}' 2>/dev/null")
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    def train(self, *overrides: str) -> "subprocess.Popen[str]":
        """Start a run on the head."""
        command = f"cd ~/tercet && tercet train cluster=auto {TRAIN} {' '.join(overrides)} > ~/run.log 2>&1"
        return subprocess.Popen(
            ["ray", "exec", "--no-config-cache", str(self.file), command],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def sampling(self) -> list[Host]:
        """Return the hosts on which env runners run."""
        return [host for host in self.machines if host.runs(RUNNER)]

    def wait(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        ends = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > ends:
                raise TimeoutError(
                    f"{what}: not within {within_s:.0f} s\n{self.on_head('ray status')}"
                )
            time.sleep(0.5)

    def _ray(self, *words: str) -> None:
        done = subprocess.run(
            ["ray", *words], env=self._environment, capture_output=True, text=True, check=False
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


def test_up(cluster: Cluster) -> None:
    started = time.monotonic()
    run = cluster.train("algorithm.steps=20000", "out=runs/one")
    cluster.wait(lambda: len(cluster.sampling()) >= 2, 120, "runners on two hosts")
    print("runners", time.monotonic() - started, cluster.sampling())
    print(run.communicate(timeout=200)[0][-1000:])
    print((cluster.head.home / "run.log").read_text(), time.monotonic() - started)
    print(cluster.on_head("cd ~/tercet/runs/one && find . | head -50; cat summary.json"))
    print(list((cluster.head.home / "tercet/runs/one").rglob("*")))
    assert run.returncode == 0
