"""Who made an artefact: an Ed25519 signature over its identity, beside its files.

Keys are PEM files, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.

Source:
    RFC 8032, "Edwards-Curve Digital Signature Algorithm (EdDSA)".
"""

import re
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from agents.untrusted import read_plain
from market.errors import InputError

SIGNATURE = "signature.json"
MOST_BYTES = 4096  # of a key or a signature
_FORM = re.compile(rb'\{"ed25519": "([0-9a-f]{128})"\}\n')
_PURPOSE = b"tercet artefact "  # so that a signature made for anything else never fits


def signed(identity: str, private_key: Path) -> bytes:
    """Return the content of `signature.json`.

    Args:
        identity: sha256 of the artefact.
        private_key: PEM file that nobody else can read.

    Raises:
        InputError: if the file holds no such key, or others can read it.
    """
    content = read_plain(private_key, MOST_BYTES)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:
        raise InputError(f"{private_key} is encrypted: an unencrypted key is needed") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{private_key} holds no private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{private_key} holds another kind of key than Ed25519")
    if stat.S_IMODE(private_key.stat().st_mode) & 0o077:
        raise InputError(f"{private_key} can be read by others: chmod 600 {private_key}")
    return b'{"ed25519": "' + key.sign(_message(identity)).hex().encode() + b'"}\n'


def check(identity: str, signature: bytes, public_key: Path) -> None:
    """Refuse a signature that the owner of a key did not make over this identity.

    Raises:
        InputError: if the file holds no such key, or the signature is not that of the artefact.
    """
    try:
        key = load_pem_public_key(read_plain(public_key, MOST_BYTES))
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{public_key} holds no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{public_key} holds another kind of key than Ed25519")
    found = _FORM.fullmatch(signature)
    if found is None:
        raise InputError(f"artefact {identity[:12]}: {SIGNATURE} holds no signature")
    try:
        key.verify(bytes.fromhex(found[1].decode()), _message(identity))
    except InvalidSignature as error:
        raise InputError(
            f"artefact {identity[:12]}: its signature was not made over it with {public_key}"
        ) from error


def _message(identity: str) -> bytes:
    return _PURPOSE + identity.encode()
