"""`tercet cluster-file`: print what `ray up` starts a cluster from."""

from typing import Any

import yaml

from cli.config import ClusterFileConfig
from cli.verbs import verb
from training.cluster_file import ClusterFile

HEADER = """\
# A cluster for Tercet: ray up FILE. Made by: tercet cluster-file provider={provider}
# (other values: tercet cluster-file --help). docs/cluster.md explains it.
"""


@verb(ClusterFileConfig)
def main(config: ClusterFileConfig) -> None:
    """Print the file."""
    print(content(config), end="")


def content(config: ClusterFile) -> str:
    """Return the file's text."""
    document = config.document()
    kind = {"local": "on_premise"}.get(document["provider"]["type"], document["provider"]["type"])
    text = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=100)
    return HEADER.format(provider=kind) + text


class _Plain(yaml.SafeDumper):
    """Writes what is there twice out twice: anchors make a file hard to edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
