"""Signatures of persons over proposed limits: Ed25519 over canonical JSON.

What is signed names the account, the limits that are replaced and the time of the proposal, so a
signature serves one proposal and can never be used again.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from market.errors import InputError
from risk.gateway.canonical import canonical

Persons = Mapping[str, Ed25519PublicKey]


def text_to_sign(
    account: str, base: str, limits: Mapping[str, str | int], proposed_at: datetime
) -> str:
    """Return what persons sign.

    Args:
        account: the broker's id of it.
        base: version of the limits that would be replaced.
        limits: as `GatewayLimits.record` gives them.
        proposed_at: UTC.
    """
    return canonical(
        {
            "for": "other limits",
            "account": account,
            "base": base,
            "limits": dict(limits),
            "proposed_at": proposed_at,
        }
    )


def id_of(text: str) -> str:
    """Return the id of what is signed."""
    return sha256(text.encode()).hexdigest()


def load_persons(files: Mapping[str, str]) -> Persons:
    """Return the public keys of persons.

    Args:
        files: person -> PEM file.

    Raises:
        InputError: if one cannot be read, is no Ed25519 key, or is somebody else's, too.
    """
    persons: dict[str, Ed25519PublicKey] = {}
    seen: dict[bytes, str] = {}
    for name, place in sorted(files.items()):
        try:
            key = load_pem_public_key(Path(place).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"service.persons.{name}: {place}: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise InputError(f"service.persons.{name}: {place} is no Ed25519 public key")
        raw = key.public_bytes_raw()
        if raw in seen:
            raise InputError(f"service.persons: {name} and {seen[raw]} have the same key")
        persons[name], seen[raw] = key, name
    return persons


def signature(key_file: Path, text: str) -> str:
    """Return a person's signature, hexadecimal.

    Raises:
        InputError: if the file cannot be read, or is no Ed25519 private key without password.
    """
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{key_file}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{key_file} is no Ed25519 private key")
    return key.sign(text.encode()).hex()


def signers(text: str, signatures: Mapping[str, str], persons: Persons) -> frozenset[str]:
    """Return the persons whose signature of a text holds."""
    return frozenset(
        name
        for name, found in signatures.items()
        if name in persons and _holds(persons[name], text, found)
    )


def _holds(key: Ed25519PublicKey, text: str, found: str) -> bool:
    try:
        key.verify(bytes.fromhex(found), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
