"""The real service: `tercet serve` in its own processes, asked over HTTP while things break."""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil
import pytest

from agents.manifest import read_verified
from agents.policies import ArtefactPolicy
from agents.registry import Registry
from serving.questions import Question

PORT = 18_431
COLD_S = 120.0
CALLERS = 4
BACK_S = 60.0  # within which a killed replica is back, on a busy machine too
UNAVAILABLE = 503
PREFIX = "ray::ServeReplica:tercet:"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]


class Reply(NamedTuple):
    """One answer over HTTP; status 0 is none at all."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Running:
    """A service in its own processes."""

    process: psutil.Process
    token: str
    registry: Registry
    last: str

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None) -> Reply:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        headers = {
            "authorization": f"Bearer {self.token if token is None else token}",
            "content-type": "application/json",
        }
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            sent = {key.lower(): value for key, value in response.getheaders()}
            return Reply(response.status, sent, response.read())
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, {}, repr(error).encode())
        finally:
            connection.close()

    def allocate(self, account: str) -> Reply:
        """Ask what an account should hold after the last session."""
        holder = {"id": account, "cash": 1000, "positions": {}}
        return self.ask("POST", "/v1/allocations", {"as_of": self.last, "account": holder})

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Return the processes of a deployment."""
        found = []
        for process in self.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] and process.cmdline()[0].startswith(PREFIX + deployment):
                    found.append(process)
        return found

    def promote(self, artefact: Path) -> str:
        """Make an artefact champion, where it is not, and return its hash."""
        champion, sha256 = self.registry.champion(), read_verified(artefact, None).sha256
        if champion is None or champion.sha256 != sha256:
            self.registry.promote(artefact, "the test wants it")
        return sha256

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + BACK_S
        while not holds():
            assert time.monotonic() < end, f"not within {BACK_S} s: {what}"
            time.sleep(0.1)

    def serving(self) -> str | None:
        """Return the hash of the model that answers now."""
        reply = self.allocate("probe")
        return json.loads(reply.body)["model"]["sha256"] if reply.status == 200 else None


@dataclass
class Load:
    """Callers that ask without a pause, each question a new one, and all that they heard."""

    service: Running
    replies: list[Reply] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._ask, args=(k,)) for k in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, caller: int) -> None:
        count = 0
        while not self.stop.is_set():
            self.replies.append(self.service.allocate(f"caller-{caller}-{count}-{time.time_ns()}"))
            count += 1

    def require_right(self, expected: dict[str, dict[str, float]]) -> Counter[int]:
        """Check every answer against the model that it names, and every refusal; count both."""
        for reply in self.replies:
            if reply.status == 200:
                answer = json.loads(reply.body)
                weights = expected[answer["model"]["sha256"]]
                assert answer["weights"].keys() == weights.keys()
                for symbol, weight in weights.items():
                    assert abs(answer["weights"][symbol] - weight) <= 1e-6
            else:
                assert reply.status == UNAVAILABLE, reply
                assert int(reply.headers["retry-after"]) >= 1
                assert json.loads(reply.body)["error"]["code"]
        return Counter(reply.status for reply in self.replies)


@pytest.fixture(scope="module")
def service(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    registry = Registry(folder / "registry")
    registry.promote(world.artefact(1), "the first champion")
    command = [
        *(sys.executable, "-m", "cli", "serve"),
        *(*world.overrides, f"policy.registry={folder / 'registry'}", f"port={PORT}"),
        "serving.web.requests_per_minute=1000000",
    ]
    root = Path(__file__).resolve().parents[2]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=_environment(root)
        )
        try:
            _wait_for(process, folder / "log")
            token = next(
                line.split()[1]
                for line in (folder / "runs" / "tokens").read_text().splitlines()
                if line.startswith("admin")
            )
            yield Running(psutil.Process(process.pid), token, registry, world.last)
        finally:
            process.terminate()
            process.wait(timeout=120)


def _environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root)}


def _wait_for(process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + COLD_S
    while "serving on" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def expected(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Return what each artefact answers without a server, by sha256."""
    import asyncio

    found = {}
    for seed in (1, 2):
        plan = world.plan(ArtefactPolicy(str(world.artefact(seed))), tmp_path_factory.mktemp("x"))
        opinion = asyncio.run(world.backend(plan).opinion(Question(world.last, None, None)))
        found[opinion.model["sha256"]] = opinion.weights
    return found


def test_the_service_answers_as_the_command_without_a_server(
    service: Running, expected: dict[str, dict[str, float]], world: Any, tmp_path: Path
) -> None:
    reply = service.allocate("fund")
    assert reply.status == 200, reply
    served = json.loads(reply.body)
    command = [
        *(sys.executable, "-m", "cli", "allocate"),
        *world.overrides,
        f"policy.registry={service.registry.folder}",
        f"as_of={world.last}",
        "account={id:fund,cash:1000,positions:{}}",
    ]
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run(
        command, cwd=tmp_path, env=_environment(root), capture_output=True, check=True
    )
    said = json.loads(printed.stdout)
    for answer in (served, said):
        del answer["diagnostics"]["seconds"], answer["diagnostics"]["data_age"]
    assert said == served
    assert served["weights"] == expected[served["model"]["sha256"]]


def test_a_decision_can_be_read_again_with_its_explanation(service: Running) -> None:
    decided = json.loads(service.allocate("reader").body)
    reply = service.ask("GET", f"/v1/allocations/{decided['decision_id']}")
    assert reply.status == 200, reply
    assert json.loads(reply.body)["explanation"]["agents"].keys() == decided["agents"].keys()


def test_without_its_token_nobody_learns_anything(service: Running) -> None:
    for method, path in (("POST", "/v1/allocations"), ("GET", "/v1/models"), ("GET", "/metrics")):
        assert service.ask(method, path, {}, token="wrong").status == 401


def test_whatever_listens_beyond_loopback_is_rays_own_and_asks_for_its_token(
    service: Running,
) -> None:
    parts = [service.process, *service.process.children(recursive=True)]
    modes = [p.environ().get("RAY_AUTH_MODE") for p in parts if p.name() == "gcs_server"]
    assert modes == ["token"]
    listening = [
        (part.cmdline()[0], connection.laddr)
        for part in parts
        for connection in part.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    near = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    far = [(name, address) for name, address in listening if address.ip not in near]
    # Ray Serve binds the gRPC server between its replicas to every interface, whatever is set.
    assert far and all(name.startswith(PREFIX) for name, _ in far), far
    for _, address in far:
        with grpc.insecure_channel(f"127.0.0.1:{address.port}") as channel:
            call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_models_are_swapped_under_load_without_a_lost_request(
    service: Running, expected: dict[str, dict[str, float]], world: Any, soak: bool
) -> None:
    swaps = 20 if soak else 2
    with Load(service) as load:
        for swap in range(swaps):
            champion = service.promote(world.artefact(2 - swap % 2))
            service.until(lambda sha=champion: service.serving() == sha, "the new champion")
            time.sleep(1.0)
    counts = load.require_right(expected)
    assert set(counts) == {200}, counts
    answered = {json.loads(reply.body)["model"]["sha256"] for reply in load.replies}
    assert answered == set(expected)


def test_a_rollback_is_served_within_seconds(service: Running, world: Any) -> None:
    first, second = (service.promote(world.artefact(seed)) for seed in (1, 2))
    service.until(lambda: service.serving() == second, "the promoted one")
    service.registry.rollback("it was worse")
    service.until(lambda: service.serving() == first, "the one before")


def test_replicas_die_and_no_wrong_answer_is_given(
    service: Running, expected: dict[str, dict[str, float]], world: Any, soak: bool
) -> None:
    kills, swaps = (200, 20) if soak else (10, 2)
    draw = random.Random(7)
    deployments = ["champion", "champion", "ingress", "sources", "challenger"]
    killed: Counter[str] = Counter()
    with Load(service) as load:
        while killed.total() < kills:
            deployment = draw.choice(deployments)
            service.until(lambda d=deployment: bool(service.replicas(d)), f"a {deployment}")
            draw.choice(service.replicas(deployment)).kill()
            killed[deployment] += 1
            if killed.total() % (kills // swaps) == 0:
                other = 1 + killed.total() // (kills // swaps) % 2
                champion = service.promote(world.artefact(other))
            time.sleep(draw.uniform(0.1, 3.0))
        service.until(lambda: service.serving() == champion, "the last champion")
    counts = load.require_right(expected)
    assert counts[200] > 10 * CALLERS
    print(f"\n{dict(killed)} killed; answers {dict(counts)}")
