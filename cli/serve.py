"""`tercet serve`: the daily allocation over HTTP, until Ctrl-C or SIGTERM."""

import sys
from dataclasses import replace
from pathlib import Path

import yaml

from cli.config import ServeConfig
from cli.verbs import verb
from market.errors import InputError
from risk.access.tokens import load_tokens, make_tokens_file
from serving.run import ENVIRONMENT, LOOPBACK, config_file, serving, until_stopped
from training.local_ray import local_ray

TOKENS = Path("runs/tokens")  # where a random token is kept when no file is named


@verb(ServeConfig)
def main(config: ServeConfig) -> None:
    """Start the application and wait; with print_config=true print it for `serve deploy`."""
    if config.serving.tokens is None and config.host not in LOOPBACK:
        raise InputError(
            f"host={config.host} lets others in: write a tokens file and name it with "
            "serving.tokens=<file>"
        )
    tokens = _tokens(config)
    plan = config.blueprint()
    plan = replace(plan, serving=replace(plan.serving, tokens=str(tokens))).located()
    if config.print_config:
        yaml.safe_dump(config_file(plan, config.host, config.port), sys.stdout, sort_keys=False)
        return
    plan.sources().require_champion()  # in a second, not after half a minute of starting
    with local_ray(environment=ENVIRONMENT), serving(plan, config.host, config.port) as address:
        print(f"serving on {address}  (tokens: {tokens}; pages: {address}/docs)", flush=True)
        until_stopped()


def _tokens(config: ServeConfig) -> Path:
    """Return the file of tokens, made with a random one where none is named and none is there."""
    if config.serving.tokens is not None:
        path = Path(config.serving.tokens)
    else:
        path = TOKENS
        if not path.exists():
            make_tokens_file(path)
    load_tokens(path)
    return path
