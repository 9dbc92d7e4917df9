"""The file that `ray up` reads, made from one set of values for every provider.

Source of the keys: Ray's cluster configuration reference and its `ray-schema.json`.
"""

from dataclasses import dataclass
from typing import Any

REPOSITORY = "~/tercet"
DATA = "~/tercet-data"
TOKEN = "~/.ray/auth_token"
PORT = 6379
ENVIRONMENT = "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0"
EXCLUDED = [".git", ".venv", "runs", "__pycache__", ".hypothesis", ".*_cache"]
# A machine lost without notice is noticed within 3 x (3 + 5) s; Ray's own 5 x (3 + 10) s would
# hold up every env runner for as long.
HEALTH = "RAY_health_check_failure_threshold=3 RAY_health_check_timeout_ms=5000"
# Until the driver is there, Ray would make a container without the machine's GPU, for good.
DRIVER = "! lspci | grep -qi nvidia || timeout 600 bash -c 'until nvidia-smi; do sleep 2; done'"

HEAD, SPOT, ON_DEMAND = "learner", "runner_spot", "runner_on_demand"

Document = dict[str, Any]


@dataclass(slots=True)
class AwsProvider:
    """Amazon EC2."""

    region: str
    zones: list[str]  # of that region, tried in this order
    image: str  # machine image (AMI) of that region, with Docker and NVIDIA's driver
    security_group: str  # its id; Ray's own would open port 22 to the world
    ssh_user: str
    head: str  # instance type with a GPU, on demand
    runner: str  # instance type of the samplers, spot and on demand
    disk_gb: int

    def document(self, values: "ClusterFile") -> Document:
        """Return what differs from provider to provider."""
        disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": self.disk_gb, "VolumeType": "gp3"}}
        both = {
            "ImageId": self.image,
            "SecurityGroupIds": [self.security_group],
            "BlockDeviceMappings": [disk],
            "InstanceInitiatedShutdownBehavior": "terminate",
        }
        head, runner = {"InstanceType": self.head, **both}, {"InstanceType": self.runner, **both}
        spot = {**runner, "InstanceMarketOptions": {"MarketType": "spot"}}
        return {
            "provider": {
                "type": "aws",
                "region": self.region,
                "availability_zone": ",".join(self.zones),
                "cache_stopped_nodes": False,
            },
            "auth": {"ssh_user": self.ssh_user},
            "docker": values.docker(),
            **values.node_types(head, spot, runner, {}, {}),
            **values.container_commands(),
        }


@dataclass(slots=True)
class GcpProvider:
    """Google Compute Engine."""

    project: str
    region: str
    zone: str
    ssh_user: str
    head: str  # machine type with a GPU, on demand
    head_cpus: int
    runner: str  # machine type of the samplers, spot and on demand
    runner_cpus: int
    image: str  # with Docker and, for the head, NVIDIA's driver
    disk_gb: int

    def document(self, values: "ClusterFile") -> Document:
        """Return what differs from provider to provider."""
        disk = {
            "boot": True,
            "autoDelete": True,
            "type": "PERSISTENT",
            "initializeParams": {"diskSizeGb": self.disk_gb, "sourceImage": self.image},
        }
        # Machines with a GPU cannot move while their host is maintained.
        head = {
            "machineType": self.head,
            "disks": [disk],
            "scheduling": [{"onHostMaintenance": "TERMINATE"}],
            "metadata": {"items": [{"key": "install-nvidia-driver", "value": "True"}]},
        }
        runner = {"machineType": self.runner, "disks": [disk]}
        spot = {**runner, "scheduling": [{"preemptible": True}]}
        return {
            "provider": {
                "type": "gcp",
                "region": self.region,
                "availability_zone": self.zone,
                "project_id": self.project,
                "cache_stopped_nodes": False,
            },
            "auth": {"ssh_user": self.ssh_user},
            "docker": values.docker(),
            **values.node_types(
                head, spot, runner, {"CPU": self.head_cpus, "GPU": 1}, {"CPU": self.runner_cpus}
            ),
            **values.container_commands(),
        }


@dataclass(slots=True)
class OnPremiseProvider:
    """Machines of one's own, which are there already."""

    head: str  # address
    runners: list[str]  # addresses
    ssh_user: str
    ssh_key: str
    python: str  # interpreter that the virtual environment is made with

    def __post_init__(self) -> None:
        if len({self.head, *self.runners}) != 1 + len(self.runners):
            raise ValueError("provider.head and provider.runners must be different machines")

    def document(self, values: "ClusterFile") -> Document:
        """Return what differs from provider to provider.

        Ray knows one type of node here, and takes no `available_node_types`: with them it forgets
        its own defaults. Its second autoscaler never starts these machines, hence the first one.
        """
        count = len(self.runners)
        return {
            "provider": {"type": "local", "head_ip": self.head, "worker_ips": list(self.runners)},
            "auth": {"ssh_user": self.ssh_user, "ssh_private_key": self.ssh_key},
            "min_workers": count,
            "max_workers": count,
            **values.commands(
                [
                    f"test -x ~/venv/bin/python || {self.python} -m venv ~/venv",
                    _first_in_bashrc("export PATH=$HOME/venv/bin:$PATH"),
                ],
                "RAY_enable_autoscaler_v2=0 ",
            ),
        }


Provider = AwsProvider | GcpProvider | OnPremiseProvider


@dataclass(slots=True)
class ClusterFile:
    """What a cluster is, whoever provides its machines."""

    provider: Any  # Provider
    name: str  # of the cluster
    ray_version: str  # of the lock file
    python: str  # of the image's tag
    max_runner_nodes: int  # machines of samplers at most, >= 1
    min_runner_nodes: int  # that are kept, >= 0
    on_demand_runner_nodes: int  # of them that may be paid in full where spot has none, >= 0
    idle_minutes: int  # after which a machine of samplers is given back, >= 1
    machine_minutes: int  # after which a rented machine ends itself, whatever happens
    token: str  # local file with the token that every request needs
    repository: str  # local folder
    data: str | None  # local folder of market files, copied to every machine

    def __post_init__(self) -> None:
        for name in ("max_runner_nodes", "idle_minutes", "machine_minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, was {getattr(self, name)}")
        for name in ("min_runner_nodes", "on_demand_runner_nodes"):
            if not 0 <= getattr(self, name) <= self.max_runner_nodes:
                raise ValueError(
                    f"{name} must be in [0, max_runner_nodes], was {getattr(self, name)}"
                )

    def document(self) -> Document:
        """Return the content of the file."""
        mounts = {TOKEN: self.token, REPOSITORY: self.repository}
        if self.data is not None:
            mounts[DATA] = self.data
        provider: Provider = self.provider
        return {
            "cluster_name": self.name,
            "idle_timeout_minutes": self.idle_minutes,
            "file_mounts": mounts,
            "rsync_exclude": [f"**/{name}" for name in EXCLUDED],
            **provider.document(self),
        }

    def docker(self) -> Document:
        """Return the images: the learner's has CUDA."""
        image = f"rayproject/ray:{self.ray_version}-{self.python}"
        return {
            "head_image": f"{image}-gpu",
            "worker_image": f"{image}-cpu",
            "container_name": self.name,
            "run_options": ["--ulimit nofile=65536:65536"],
        }

    def node_types(
        self,
        head: Document,
        spot: Document,
        on_demand: Document,
        head_resources: Document,
        resources: Document,
    ) -> Document:
        """Return the machines that may be rented; where resources are empty, Ray looks them up."""

        # Ray asks for the highest priority first, and for the next while that has just failed.
        def node(config: Document, has: Document, least: int, most: int, first: int) -> Document:
            return {
                "node_config": config,
                "resources": has,
                "min_workers": least,
                "max_workers": most,
                "priority": first,
            }

        return {
            "max_workers": self.max_runner_nodes,
            "head_node_type": HEAD,
            "available_node_types": {
                HEAD: node(head, head_resources, 0, 0, 0),
                SPOT: node(spot, resources, self.min_runner_nodes, self.max_runner_nodes, 1),
                ON_DEMAND: node(on_demand, resources, 0, self.on_demand_runner_nodes, 0),
            },
        }

    def container_commands(self) -> Document:
        """Return how a rented machine is set up: in the image, and with an end."""
        return {
            # On the machine itself, not in its container: a forgotten head ends too.
            "initialization_commands": [f"sudo shutdown -h +{self.machine_minutes}", DRIVER],
            **self.commands([], ""),
        }

    def commands(self, before: list[str], head_environment: str) -> Document:
        """Return how a machine is set up from the lock file, and its Ray is started.

        Args:
            before: commands that come first.
            head_environment: variables of the head's Ray, ending in a space.
        """
        install = "pip install --quiet --constraint requirements.lock"
        return {
            "setup_commands": [
                *before,
                f"cd {REPOSITORY} && {install} torch && {install} --editable .",
                _first_in_bashrc(f"export {ENVIRONMENT}"),
            ],
            "head_start_ray_commands": [
                "ray stop",
                f"{head_environment}{ENVIRONMENT} {HEALTH} ray start --head --port={PORT} "
                "--dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml",
            ],
            "worker_start_ray_commands": [
                "ray stop",
                f"{ENVIRONMENT} ray start --address=$RAY_HEAD_IP:{PORT}",
            ],
        }


def _first_in_bashrc(line: str) -> str:
    """Return the command that puts a line there once, before the test for interactive shells."""
    return (
        f"touch ~/.bashrc && {{ grep -qxF '{line}' ~/.bashrc || "
        f"{{ echo '{line}' | cat - ~/.bashrc > ~/.bashrc.new && mv ~/.bashrc.new ~/.bashrc; }}; }}"
    )
