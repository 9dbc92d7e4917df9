"""A trained policy set as one folder: written whole or not at all, read only when whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Generator, Tensor

from agents.mandates import Mandate
from agents.manifest import (
    HASHES,
    MANIFEST,
    MOST_WORDS,
    PARAMETERS,
    Contents,
    Manifest,
    first_difference,
    hashes_of,
    parse_manifest,
    read_verified,
    require_whole,
)
from agents.network_spec import NetworkSpec
from agents.networks import PolicyNetwork
from agents.observation import BOOK_ASSET_FEATURES, BOOK_FEATURES
from agents.untrusted import strict_json
from agents.whole_files import write_folder
from market.errors import InputError
from market.features import FeatureConfig

SEPARATOR = "/"  # between a policy's and a parameter's name
HEADER_START = 8  # bytes that hold the length of a safetensors header
MOST_HEADER = 1 << 20  # bytes; one entry has about 100


@dataclass(frozen=True, slots=True, eq=False)
class Artefact:
    """Policies ready to act, and what is known about them.

    Args:
        folder: where it was read from.
        sha256: its identity, 64 hexadecimal digits.
        manifest: mandates, features, ensemble and origin.
        networks: policy -> network with frozen parameters; none for a policy at the rule.
    """

    folder: Path
    sha256: str
    manifest: Manifest
    networks: Mapping[str, PolicyNetwork]


def save(folder: Path, networks: Mapping[str, PolicyNetwork], manifest: Manifest) -> None:
    """Write an artefact: under another name first, then renamed, so that none is ever half there.

    Args:
        folder: must not exist yet.
        networks: one for every policy in `manifest.policies`.
        manifest: what to say about them.

    Raises:
        InputError: if the folder exists.
        ValueError: if networks and manifest do not belong together, or a parameter is not finite.
    """
    if folder.exists():
        raise InputError(f"{folder} exists: an artefact is never overwritten")
    if set(networks) != set(manifest.policies):
        raise ValueError(f"networks {sorted(networks)} for policies {sorted(manifest.policies)}")
    tensors: dict[str, Tensor] = {}
    for policy, network in networks.items():
        if network.spec != manifest.network:
            raise ValueError(f"policy {policy} has another shape than the manifest says")
        for name, value in network.state_dict().items():
            tensors[policy + SEPARATOR + name] = value.detach().cpu().contiguous()
    _check_finite(tensors)
    contents = {PARAMETERS: tensor_bytes(tensors), MANIFEST: manifest.to_json().encode()}
    write_folder(folder, {**contents, HASHES: hashes_of(contents)})


def load(folder: Path, public_key: Path | None = None) -> Artefact:
    """Read an artefact.

    Args:
        folder: holds its files.
        public_key: PEM file of who must have signed it; None does not ask.

    Raises:
        InputError: naming the file that is missing, damaged, not signed, of another format, or
            does not fit the manifest.
    """
    return parse(read_verified(folder, public_key), str(folder))


def parse(contents: Contents, origin: str) -> Artefact:
    """Turn the bytes of an artefact into policies; the hashes are compared once more.

    Args:
        contents: from `read_verified`, here or in another process.
        origin: where they came from, for messages.

    Raises:
        InputError: as `load`.
    """
    if require_whole(contents.files, origin) != contents.sha256:
        raise InputError(f"{origin} is not the artefact {contents.sha256}")
    manifest = parse_manifest(contents, origin)
    try:
        networks = _networks(contents.files[PARAMETERS], manifest)
    except (RuntimeError, SafetensorError, ValueError) as error:
        why = " ".join(str(error).split())[:MOST_WORDS]  # torch lists every name
        raise InputError(f"{origin}/{PARAMETERS} does not fit its manifest: {why}") from error
    return Artefact(Path(origin), contents.sha256, manifest, networks)


def check_features(artefact: Artefact, config: FeatureConfig) -> None:
    """Refuse a configuration that asks for other features than the policies were trained on.

    Raises:
        InputError: naming the first difference.
    """
    recorded = artefact.manifest.features.config.to_dict()
    difference = first_difference(recorded, config.to_dict(), "features")
    if difference is not None:
        raise InputError(f"{artefact.folder}: {difference}")


def check_mandates(artefact: Artefact, mandates: Sequence[Mandate]) -> None:
    """Refuse mandates that differ from those of training, in a limit or anything else.

    Raises:
        InputError: naming the first difference.
    """
    recorded = {mandate.name: mandate.to_dict() for mandate in artefact.manifest.mandates}
    found = {mandate.name: mandate.to_dict() for mandate in mandates}
    difference = first_difference(recorded, found, "agents")
    if difference is not None:
        raise InputError(f"{artefact.folder}: {difference}")


def _networks(content: bytes, manifest: Manifest) -> dict[str, PolicyNetwork]:
    """Build the policies; every parameter must be there, finite, in its shape, and no other."""
    _check_header(content)
    tensors = parse_tensors(content)
    _check_finite(tensors)
    parts: dict[str, dict[str, Tensor]] = {policy: {} for policy in manifest.policies}
    for name, value in tensors.items():
        policy, _, parameter = name.partition(SEPARATOR)
        if policy not in parts:
            raise ValueError(f"{name} is of no policy in the manifest")
        parts[policy][parameter] = value
    return {policy: _network(own, manifest.network) for policy, own in parts.items()}


def _network(own: Mapping[str, Tensor], spec: NetworkSpec) -> PolicyNetwork:
    """Build one policy, after seeing that the file backs every size that the manifest claims."""
    s, h = spec.members, spec.hidden
    for name, shape in {
        "asset_weight": (s, spec.asset_features, h),
        "market_weight": (s, spec.market_features, h),
        "own_weight": (s, h, h),
    }.items():
        found = tuple(own[name].shape) if name in own else None
        if found != shape:
            raise ValueError(f"{name} has the shape {found}, not {shape}")
    if (spec.book_asset, spec.book) != (BOOK_ASSET_FEATURES, BOOK_FEATURES):
        raise ValueError(f"it was trained on {spec.book_asset} and {spec.book} features of a book")
    network = PolicyNetwork(spec, Generator())
    network.load_state_dict(own)
    if not bool((network.scale > 0.0).all()):
        raise ValueError("scale is not positive")
    return network.requires_grad_(False)


def _check_header(content: bytes) -> None:
    """Refuse a header that is too long, has a second meaning or names other than float32."""
    length = int.from_bytes(content[:HEADER_START], "little")
    if not length <= min(MOST_HEADER, len(content) - HEADER_START):
        raise ValueError(f"its header would have {length} bytes")
    header = strict_json(content[HEADER_START : HEADER_START + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no record")
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.get("dtype") != "F32":
            raise ValueError(f"{name} is no float32 tensor")


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} is not finite")
