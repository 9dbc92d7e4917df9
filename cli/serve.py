"""`tercet serve`: the daily allocation over HTTP, until Ctrl-C or SIGTERM."""

import sys
from dataclasses import replace
from pathlib import Path

import yaml

from cli.config import ServeConfig
from cli.tokens import tokens_file
from cli.verbs import verb
from serving.run import ENVIRONMENT, config_file, serving, until_stopped
from training.local_ray import local_ray

TOKENS = Path("runs/tokens")  # where a random token is kept when no file is named


@verb(ServeConfig)
def main(config: ServeConfig) -> None:
    """Start the application and wait; with print_config=true print it for `serve deploy`."""
    tokens = tokens_file("serving.tokens", config.serving.tokens, TOKENS, config.host)
    plan = config.blueprint()
    plan = replace(plan, serving=replace(plan.serving, tokens=str(tokens))).located()
    if config.print_config:
        yaml.safe_dump(config_file(plan, config.host, config.port), sys.stdout, sort_keys=False)
        return
    plan.sources().require_champion()  # in a second, not after half a minute of starting
    with local_ray(environment=ENVIRONMENT), serving(plan, config.host, config.port) as address:
        print(f"serving on {address}  (tokens: {tokens}; pages: {address}/docs)", flush=True)
        until_stopped()
