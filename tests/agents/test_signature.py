import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import artefact
from agents.manifest import MANIFEST, identity, read_verified
from agents.signature import SIGNATURE, check, signed
from market.errors import InputError

IDENTITY = "0123456789abcdef" * 4
PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def write_keys(
    folder: Path,
    name: str,
    key: PrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> tuple[Path, Path]:
    """Write both halves of a key and return their paths, the private one first."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    encryption = encryption or NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    private.chmod(0o600)
    whole = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(whole)
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours", ed25519.Ed25519PrivateKey.generate())


def test_what_was_signed_is_accepted_and_nothing_else(keys: tuple[Path, Path]) -> None:
    private, public = keys
    signature = signed(IDENTITY, private)
    check(IDENTITY, signature, public)
    assert signature == signed(IDENTITY, private)
    with pytest.raises(InputError, match="was not made over it"):
        check(IDENTITY[::-1], signature, public)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 143), mask=st.integers(1, 255))
def test_a_byte_changed_anywhere_in_a_signature_is_refused(
    keys: tuple[Path, Path], place: int, mask: int
) -> None:
    private, public = keys
    changed = bytearray(signed(IDENTITY, private))
    assert len(changed) == 144
    changed[place] ^= mask
    with pytest.raises(InputError, match=r"holds no signature|was not made over it"):
        check(IDENTITY, bytes(changed), public)


def test_a_signature_of_the_bare_identity_is_none_of_an_artefact(keys: tuple[Path, Path]) -> None:
    """What the key signs elsewhere must not pass for an artefact."""
    key = ed25519.Ed25519PrivateKey.generate()
    _, public = write_keys(keys[0].parent, "other", key)
    bare = b'{"ed25519": "' + key.sign(IDENTITY.encode()).hex().encode() + b'"}\n'
    with pytest.raises(InputError, match="was not made over it"):
        check(IDENTITY, bare, public)


@pytest.mark.parametrize("signature", [b"", b"{}", b"\x80\x04K\x01.", b"{" * 4000])
def test_what_is_no_signature_is_refused(keys: tuple[Path, Path], signature: bytes) -> None:
    with pytest.raises(InputError, match="holds no signature"):
        check(IDENTITY, signature, keys[1])


def test_keys_that_cannot_be_used_are_named(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    signature = signed(IDENTITY, private)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other_private, other_public = write_keys(tmp_path, "rsa", other)
    locked, _ = write_keys(
        tmp_path, "locked", ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")
    )
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    nonsense.chmod(0o600)
    for path, match in {
        other_private: "another kind of key than Ed25519",
        locked: "is encrypted",
        nonsense: "holds no private key",
        public: "holds no private key",
        tmp_path / "absent": "absent cannot be read: No such file",
        tmp_path: "it is no regular file",
    }.items():
        with pytest.raises(InputError, match=match):
            signed(IDENTITY, path)
    for path, match in {
        other_public: "another kind of key than Ed25519",
        nonsense: "holds no public key",
        private: "holds no public key",
        tmp_path / "absent": "absent cannot be read: No such file",
    }.items():
        with pytest.raises(InputError, match=match):
            check(IDENTITY, signature, path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_private_key_that_others_can_read_is_refused(keys: tuple[Path, Path], mode: int) -> None:
    keys[0].chmod(mode)
    with pytest.raises(InputError, match=r"can be read by others: chmod 600"):
        signed(IDENTITY, keys[0])


def test_a_key_of_openssl_signs(tmp_path: Path) -> None:
    private, public = tmp_path / "k.pem", tmp_path / "p.pem"
    try:
        for command in (
            ["genpkey", "-algorithm", "ed25519", "-out", str(private)],
            ["pkey", "-in", str(private), "-pubout", "-out", str(public)],
        ):
            subprocess.run(["openssl", *command], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    private.chmod(0o600)
    check(IDENTITY, signed(IDENTITY, private), public)


def test_an_artefact_is_loaded_only_with_the_signature_that_is_asked_for(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    _, stranger = write_keys(folder.parent, "other", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(InputError, match="is not signed"):
        artefact.load(folder, public)
    (folder / SIGNATURE).write_bytes(signed(identity(folder), private))
    assert artefact.load(folder, public).sha256 == identity(folder)
    assert artefact.load(folder).sha256 == identity(folder)
    with pytest.raises(InputError, match="was not made over it"):
        artefact.load(folder, stranger)


def test_a_signature_does_not_outlive_a_change(
    folder: Path, keys: tuple[Path, Path], edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys
    (folder / SIGNATURE).write_bytes(signed(identity(folder), private))
    edit(folder, lambda found: found.update(trials=4))  # with right hashes

    def refuse(*_: object) -> None:
        raise AssertionError("parsed what nobody signed")

    monkeypatch.setattr(artefact, "parse", refuse)
    with pytest.raises(InputError, match="was not made over it"):
        artefact.load(folder, public)


def test_a_signature_that_is_a_link_or_too_long_is_refused(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    outside = folder.parent / "outside"
    outside.write_bytes(signed(identity(folder), private))
    (folder / SIGNATURE).symlink_to(outside)
    with pytest.raises(InputError, match="it is a symbolic link"):
        read_verified(folder, public)
    (folder / SIGNATURE).unlink()
    (folder / SIGNATURE).write_bytes(b" " * 5000)
    with pytest.raises(InputError, match="5000 bytes"):
        read_verified(folder, public)
    assert (folder / MANIFEST).exists()
