"""The files that `ray up` reads: whole for Ray's own validation, and closed to the world."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from cli.cluster_file import content
from cli.config import ClusterFileConfig, register
from market.compose import CONF, typed

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = {
    "aws": REPOSITORY / "cluster.yaml",
    "gcp": REPOSITORY / "conf/cluster/gcp.yml",
    "on_premise": REPOSITORY / "conf/cluster/on_premise.yml",
}
PROVIDERS = list(FILES)


def config(*overrides: str) -> ClusterFileConfig:
    register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("cluster_file", overrides=list(overrides))
    return typed(composed, ClusterFileConfig)


def document(*overrides: str) -> Any:
    return yaml.safe_load(content(config(*overrides)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_file_in_the_repository_is_what_the_command_prints(provider: str) -> None:
    assert FILES[provider].read_text() == content(config(f"provider={provider}"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ray_accepts_every_file(provider: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load(FILES[provider].read_text()))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_rays_validation_can_fail() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    wrong = yaml.safe_load(FILES["aws"].read_text()) | {"head_node_type": "nothing"}
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_ray_asks_for_its_token_and_shows_its_dashboard_to_itself_alone(
    provider: str,
) -> None:
    found = document(f"provider={provider}")
    started = [
        one
        for one in found["head_start_ray_commands"] + found["worker_start_ray_commands"]
        if "ray start" in one
    ]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in one for one in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert "~/.ray/auth_token" in found["file_mounts"]


def test_every_rented_machine_stands_behind_the_group_and_has_the_image_that_is_given() -> None:
    found = document("provider.security_group=sg-1", "provider.image=ami-2")
    assert "security_group" not in found["provider"]  # Ray makes one of it, open to the world
    machines = [one["node_config"] for one in found["available_node_types"].values()]
    assert len(machines) == 3
    assert all(machine["SecurityGroupIds"] == ["sg-1"] for machine in machines)
    assert all(machine["ImageId"] == "ami-2" for machine in machines)


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_samplers_are_spot_first_and_the_learner_never_is(provider: str) -> None:
    found = document(f"provider={provider}")
    types = found["available_node_types"]
    is_spot = {
        name: "InstanceMarketOptions" in one["node_config"]
        or {"preemptible": True} in one["node_config"].get("scheduling", [])
        for name, one in types.items()
    }
    assert is_spot == {"learner": False, "runner_spot": True, "runner_on_demand": False}
    assert found["head_node_type"] == "learner"


def test_ray_asks_for_spot_until_there_is_none() -> None:
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil
    from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

    # Of Google's the resources are written down; of Amazon's, Ray would ask its service.
    prepared = prepare_config(document("provider=gcp"))
    config = AutoscalingConfig(prepared, skip_content_hash=True)
    demand = ResourceRequestByCount(request=ResourceRequestUtil.make({"CPU": 16}), count=1)

    def asked(**availability: float) -> dict[str, int]:
        request = SchedulingRequest(
            node_type_configs=config.get_node_type_configs(),
            disable_launch_config_check=True,
            max_num_nodes=8,
            resource_requests=[demand],
            cloud_resource_availabilities=availability,
            recoverable_resource_availabilities=availability,
        )
        reply = ResourceDemandScheduler(event_logger=None).schedule(request)
        return {one.instance_type: one.count for one in reply.to_launch}

    assert asked() == {"runner_spot": 1}
    assert asked(runner_spot=0.0) == {"runner_on_demand": 1}


@pytest.mark.parametrize("before", [None, "", "[ -z $PS1 ] && return\n"])
def test_every_shell_asks_for_the_token_however_often_a_machine_is_set_up(
    before: str | None, tmp_path: Path
) -> None:
    if before is not None:
        (tmp_path / ".bashrc").write_text(before)
    command = document("provider=on_premise")["setup_commands"][-1]
    for _ in range(2):
        bash(command, HOME=str(tmp_path))
    line = "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n"
    assert (tmp_path / ".bashrc").read_text() == line + (before or "")


@pytest.mark.parametrize("devices", ["Amazon.com Elastic Network Adapter", "NVIDIA L4"])
def test_a_machine_waits_for_its_driver_and_one_without_a_gpu_does_not(
    devices: str, tmp_path: Path
) -> None:
    def program(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    program("lspci", f"echo {devices}")
    program("nvidia-smi", f"test -e {tmp_path}/asked || {{ touch {tmp_path}/asked; exit 9; }}")
    for provider in ("aws", "gcp"):
        *_, wait = document(f"provider={provider}")["initialization_commands"]
        bash(wait, PATH=f"{tmp_path}:{os.environ['PATH']}")
        assert (tmp_path / "asked").exists() == ("NVIDIA" in devices)


def bash(command: str, **environment: str) -> None:
    subprocess.run(["bash", "-c", command], env=os.environ | environment, check=True)


def test_the_image_is_that_of_the_locked_ray_and_python() -> None:
    locked = (REPOSITORY / "requirements.lock").read_text()
    assert f"\nray=={document()['docker']['head_image'].split(':')[1].split('-')[0]}\n" in locked
    assert "-py311-" in document()["docker"]["worker_image"]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert "3.11" in project["requires-python"]


def test_data_is_copied_where_it_is_given() -> None:
    assert "~/tercet-data" not in document()["file_mounts"]
    assert document("data=/data/bars")["file_mounts"]["~/tercet-data"] == "/data/bars"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("idle_minutes=0", "idle_minutes"),
        ("max_runner_nodes=0", "max_runner_nodes"),
        ("min_runner_nodes=9", "min_runner_nodes"),
        ("on_demand_runner_nodes=-1", "on_demand_runner_nodes"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(override: str, named: str) -> None:
    with pytest.raises(Exception, match=named):
        config(override)


def test_one_machine_in_two_places_is_refused() -> None:
    with pytest.raises(Exception, match="different machines"):
        config("provider=on_premise", "provider.head=h", "provider.runners=[h]")
