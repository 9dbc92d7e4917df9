"""Who may ask what: bearer tokens and public keys with roles, in a file that only its owner reads.

In memory there are digests and public keys only, so what is sent to other processes holds no
secret.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from market.errors import InputError

MIN_LENGTH = 16
KEY_PREFIX = "ed25519:"  # begins a public key, whose owner signs; it is no token
MAX_FILE_BYTES = 1 << 20
_KEY = re.compile(KEY_PREFIX + "([0-9a-f]{64})")


class Role(IntEnum):
    """What a token may do; each role includes those before it."""

    read = 1  # decisions, models, metrics
    allocate = 2  # new decisions
    admin = 3  # what changes the service


@dataclass(frozen=True, slots=True)
class Bearer:
    """A caller that showed a valid token, or signed.

    Args:
        role: what it may do.
        name: a few digits of the digest of the token or key, for limits and logs.
    """

    role: Role
    name: str


class Tokens:
    """The valid tokens and keys.

    Args:
        roles: token, or `ed25519:` and the 64 digits of a public key -> role.
    """

    def __init__(self, roles: dict[str, Role]) -> None:
        self._bearers: dict[bytes, Bearer] = {}
        self._keys: dict[str, tuple[Bearer, bytes]] = {}
        for word, role in roles.items():
            if key := _KEY.fullmatch(word):
                public = bytes.fromhex(key[1])
                bearer = Bearer(role, hashlib.sha256(public).hexdigest()[:12])
                self._keys[bearer.name] = bearer, public
            else:
                self._bearers[_digest(word)] = Bearer(role, _digest(word).hex()[:12])

    def key(self, name: str) -> tuple[Bearer, bytes] | None:
        """Return who signs with a key and its 32 bytes, by the first digits of its digest."""
        return self._keys.get(name)

    def bearer(self, token: bytes) -> Bearer | None:
        """Return whose token it is, or None; every valid token is compared, in constant time."""
        shown = hashlib.sha256(token).digest()
        found = None
        for digest, bearer in self._bearers.items():
            if hmac.compare_digest(digest, shown):
                found = bearer
        return found


def load_tokens(path: Path) -> Tokens:
    """Return what a file's lines `<role> <token>` or `<role> ed25519:<key>` name; `#` comments.

    Raises:
        InputError: if the file is missing, open to others, or a line is wrong. No message repeats
            a token.
    """
    return Tokens(_roles(path))


def token_of(path: Path, role: Role) -> str:
    """Return the first token of a file that has at least a role, for its owner to show.

    Raises:
        InputError: as `load_tokens`, or if there is none.
    """
    for token, found in _roles(path).items():
        if found >= role and not token.startswith(KEY_PREFIX):
            return token
    raise InputError(f"{path} holds no token of the role {role.name}")


def _roles(path: Path) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        place = f"{path}, line {number}"
        if len(words) != 2:
            raise InputError(f"{place}: needs a role and a token, has {len(words)} words")
        role, token = words
        if role not in Role.__members__:
            raise InputError(f"{place}: the role must be one of {', '.join(Role.__members__)}")
        if len(token) < MIN_LENGTH or not token.isascii() or not token.isprintable():
            raise InputError(f"{place}: a token needs at least {MIN_LENGTH} plain ASCII characters")
        if token.startswith(KEY_PREFIX) and not _KEY.fullmatch(token):
            raise InputError(f"{place}: a public key is {KEY_PREFIX} and 64 digits in lower case")
        if token in roles:
            raise InputError(f"{place}: this token was given before")
        roles[token] = Role[role]
    if not roles:
        raise InputError(f"{path} names no token")
    return roles


def make_tokens_file(path: Path) -> str:
    """Write a new file with one random token of the role admin and return that token.

    Raises:
        InputError: if the file exists or cannot be written.
    """
    token = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask says
            file.write(f"# Made by tercet.\n{Role.admin.name} {token}\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return token


def _read(path: Path) -> str:
    """Return the file's text; a pipe is not waited for, and no other file can slip in between."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
                raise InputError(f"{path} is no file of at most {MAX_FILE_BYTES} bytes")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise InputError(f"{path} has mode {mode:04o}, tokens need 0600: chmod 600 {path}")
            return file.read().decode("ascii")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} holds other than plain ASCII, at byte {error.start}") from error


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
