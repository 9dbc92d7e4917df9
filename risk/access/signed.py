"""Requests that their caller signs: nothing that travels lets anybody else ask for anything.

A caller keeps an Ed25519 private key in a PEM file; the service knows the public one, and holds no
secret. The signature is over the method, the host, the target, the time, a number that is used once
and the digest of the body, so that who is asking is known before the body is read, and the body is
known to be theirs before it is parsed. A bearer token, by contrast, is whole in every request.

Source:
    RFC 8032, "Edwards-Curve Digital Signature Algorithm (EdDSA)"; what is covered follows RFC 9421,
    "HTTP Message Signatures", section 7.
"""

import hashlib
import re
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from requests import PreparedRequest
from requests.auth import AuthBase

from market.errors import InputError
from risk.access.errors import NotAnswered, Reason
from risk.access.tokens import KEY_PREFIX, Bearer, Tokens

SCHEME = "Tercet"
OLDEST_MS = 30_000  # a signed request lives this long
AHEAD_MS = 2_000  # that a caller's clock may be ahead of ours
_FORM = re.compile(
    rb"(?i:Tercet) key=([0-9a-f]{12}), time=([0-9]{13}), nonce=([0-9a-f]{32}), "
    rb"digest=([0-9a-f]{64}), signature=([0-9a-f]{128})"
)
_PURPOSE = b"tercet request"  # so that a signature made for anything else never fits


@dataclass(frozen=True, slots=True)
class Asked:
    """What a signature covers beside time, nonce and body.

    Args:
        method: of HTTP.
        host: as the caller names it in the header Host.
        target: path and query, as they were sent.
    """

    method: str
    host: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """A caller that has signed, and what of.

    Args:
        bearer: who it is.
        digest: sha256 of the body that it has signed.
    """

    bearer: Bearer
    digest: bytes

    def require(self, body: bytes) -> None:
        """Refuse another body than the one that was signed.

        Raises:
            NotAnswered: unauthenticated.
        """
        if hashlib.sha256(body).hexdigest().encode() != self.digest:
            raise NotAnswered(Reason.unauthenticated, "the body is not the one that was signed")


class Signatures:
    """Takes each signed request once.

    What was used is kept for as long as it would be taken again, and in this process only:
    requests that were signed before it started are refused, so a restart forgets nothing.

    Args:
        tokens: with the public keys.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._since = _now_ms() + AHEAD_MS
        self._used: dict[bytes, int] = {}  # nonce -> when it was signed, ms
        self._swept = self._since

    def signed(self, header: bytes, asked: Asked) -> Signed:
        """Return who has signed a request.

        Raises:
            NotAnswered: unauthenticated: an unknown key, another request, too old, or asked before.
        """
        found = _FORM.fullmatch(header)
        if found is None:
            raise _unauthenticated("the signature is not of the form that is read")
        name, at, nonce, digest, signature = found.groups()
        known = self._tokens.key(name.decode())
        if known is None:
            raise _unauthenticated("no such key is known")
        bearer, public = known
        try:
            key = Ed25519PublicKey.from_public_bytes(public)
            key.verify(bytes.fromhex(signature.decode()), _message(asked, at, nonce, digest))
        except InvalidSignature:
            raise _unauthenticated("the signature is not one of this request") from None
        self._use(nonce, int(at))
        return Signed(bearer, digest)

    def _use(self, nonce: bytes, at: int) -> None:
        now = _now_ms()
        if at < self._since:
            raise _unauthenticated("it was signed before the service was ready; sign it anew")
        if not now - OLDEST_MS <= at <= now + AHEAD_MS:
            raise _unauthenticated(f"it was signed {(now - at) / 1000:+.1f} s ago; mind the clocks")
        if nonce in self._used:
            raise _unauthenticated("this signed request was made before")
        if now > self._swept + OLDEST_MS:
            self._swept = now
            self._used = {n: t for n, t in self._used.items() if t >= now - OLDEST_MS}
        self._used[nonce] = at


class SigningKey(AuthBase):
    """Signs the requests of one caller, as `requests` asks it to.

    Args:
        path: PEM file that nobody else can read, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        InputError: if the file holds no such key, or others can read it.
    """

    def __init__(self, path: Path) -> None:
        self._key = _private_key(path)
        self.public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def line(self) -> str:
        """Return how a tokens file names this key, behind the role."""
        return KEY_PREFIX + self.public.hex()

    def header(self, asked: Asked, body: bytes, at: int | None = None) -> str:
        """Return the header Authorization.

        Args:
            asked: what for.
            body: that goes with it.
            at: when, in ms since 1970; None is now.
        """
        when = str(_now_ms() if at is None else at).encode()
        nonce = secrets.token_hex(16).encode()
        digest = hashlib.sha256(body).hexdigest().encode()
        signature = self._key.sign(_message(asked, when, nonce, digest)).hex()
        name = hashlib.sha256(self.public).hexdigest()[:12]
        return (
            f"{SCHEME} key={name}, time={when.decode()}, nonce={nonce.decode()}, "
            f"digest={digest.decode()}, signature={signature}"
        )

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign a request that is about to be sent."""
        host = str(urlsplit(request.url or "").netloc).rpartition("@")[2]
        body = request.body or b""
        assert isinstance(body, bytes), "requests encodes JSON itself"
        asked = Asked(request.method or "", host.encode(), request.path_url.encode())
        request.headers["Host"] = host
        request.headers["Authorization"] = self.header(asked, body)
        return request


def _message(asked: Asked, at: bytes, nonce: bytes, digest: bytes) -> bytes:
    """Return what is signed; no part can hold a line break."""
    method = asked.method.encode()
    return b"\n".join((_PURPOSE, method, asked.host.lower(), asked.target, at, nonce, digest))


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
        key = load_pem_private_key(content, password=None)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise InputError(f"{path} is encrypted: an unencrypted key is needed") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} holds no private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} holds another kind of key than Ed25519")
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(f"{path} can be read by others: chmod 600 {path}")
    return key


def _unauthenticated(why: str) -> NotAnswered:
    return NotAnswered(Reason.unauthenticated, why)


def _now_ms() -> int:
    return int(time.time() * 1000)
