"""The application on Ray Serve: one HTTP ingress, one deployment per role, the sources apart.

    ingress (HTTP) ──► champion, challenger (a question, one hop) ──► sources (a look a second)

`build` makes it from a blueprint, on this machine (`tercet serve`) and on a cluster (`serve deploy`
with the file that `tercet serve print_config=true` writes). Artefacts and market data travel as
verified bytes and plain arrays, once, through the object store.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from serving.blueprint import Blueprint
from serving.deployments.ingress import Ingress
from serving.deployments.policy import PolicyReplica
from serving.deployments.sources import SourcesReplica
from serving.routing import ModelRole

NAME = "tercet"
HEALTH_S = 1.0  # between two looks of Serve at a replica: how soon a dead one is replaced
STUCK_S = 60.0  # a replica that does not answer its health check for this long is replaced
GRACE_S = 3.0  # for answers under way when a replica is told to go; they take milliseconds
CONCURRENT = 1024  # questions in one replica: they wait for others far more than they compute

# Of the head node: registry, data and decisions are files of one machine.
AT_HEAD = {"node:__internal_head__": 0.001}


def build(args: dict[str, Any]) -> Application:
    """Return the application; Serve's config file calls this by its import path.

    Args:
        args: a blueprint as JSON, see `Blueprint.to_json`.

    Raises:
        InputError: if the blueprint cannot be read.
    """
    plan = Blueprint.from_json(args)
    placement = plan.serving.placement
    sources = _deployed(SourcesReplica, "sources", 1, placement.cpus, AT_HEAD).bind(
        plan.policy, plan.serving.public_key, plan.market, plan.quality
    )
    wanted = {ModelRole.champion: placement.champion, ModelRole.challenger: placement.challenger}
    roles = {
        role: _deployed(PolicyReplica, role.value, replicas, placement.cpus, {}).bind(
            role,
            sources,
            plan.serving.desk,
            plan.env,
            plan.market.exchange,
            plan.market.cash_rate,
            placement.poll_s,
        )
        for role, replicas in wanted.items()
        if replicas > 0
    }
    ingress = _deployed(Ingress, "ingress", placement.ingress, placement.cpus, AT_HEAD)
    return ingress.bind(plan.serving, roles, sources)


def _deployed(kind: Any, name: str, replicas: int, cpus: float, resources: dict[str, float]) -> Any:
    """Return a deployment of a class."""
    return serve.deployment(
        kind,
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=CONCURRENT,
        health_check_period_s=HEALTH_S,
        health_check_timeout_s=STUCK_S,
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=GRACE_S / 30.0,
        ray_actor_options={"num_cpus": cpus, "resources": resources},
    )
