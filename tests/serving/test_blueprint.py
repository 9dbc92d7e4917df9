"""A blueprint survives the way through a Serve config file, and bad ones name their key."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.policies import ArtefactPolicy, ChampionPolicy
from market.errors import InputError
from serving.blueprint import Blueprint
from serving.run import config_file


def test_what_is_written_is_what_is_read(world: Any, tmp_path: Path) -> None:
    for policy in (ChampionPolicy("runs/registry"), ArtefactPolicy("runs/one/artefact")):
        plan = world.plan(policy, tmp_path)
        written = yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(plan.to_json()))))
        assert Blueprint.from_json(written) == plan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("env"), "env"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r["market"].update(kind="bloomberg"), "args.market.kind"),
        (lambda r: r["market"].update(embargoes=1), "args.market.embargoes is unknown"),
        (lambda r: r["market"].update(embargo="many"), "args.market.embargo"),
        (lambda r: r["market"].pop("assets"), "args.market.assets"),
        (lambda r: r["serving"]["web"].update(max_depth=0), "max_depth"),
        (lambda r: r["serving"]["web"].update(max_dept=1), "serving.web.max_dept is unknown"),
        (lambda r: r["quality"].update(action="ignore"), "args.quality.action"),
    ],
)
def test_a_bad_blueprint_names_its_key(world: Any, tmp_path: Path, change: Any, said: str) -> None:
    record = world.plan(ChampionPolicy("registry"), tmp_path).to_json()
    change(record)
    with pytest.raises(InputError, match=said):
        Blueprint.from_json(record)


def test_the_config_file_is_one_that_ray_serve_accepts(world: Any, tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    plan = world.plan(ChampionPolicy("registry"), tmp_path)
    written = yaml.safe_load(yaml.safe_dump(config_file(plan, "127.0.0.1", 8000)))
    accepted = ServeDeploySchema.model_validate(written)
    (application,) = accepted.applications
    assert Blueprint.from_json(application.args) == plan
    assert application.import_path == "serving.app:build"
