"""The tree of seeds: run -> part -> policy or runner -> step. There is no global generator."""

import hashlib

import torch


def seed_of(seed: int, *path: str | int) -> int:
    """Return the 63-bit seed of one node of the tree under `seed`.

    Nodes with different paths get unrelated seeds, and the same path gives the same seed anywhere.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_of(seed: int, *path: str | int, device: str = "cpu") -> torch.Generator:
    """Return a fresh generator for one node of the tree under `seed`."""
    return torch.Generator(device=device).manual_seed(seed_of(seed, *path))
