"""How a caller of ours is let in: by a token, or by a key that signs each request."""

from pathlib import Path

from requests import PreparedRequest
from requests.auth import AuthBase

from risk.access.signed import SigningKey
from risk.access.tokens import Role, token_of

_PEM = b"-----BEGIN "


class BearerToken(AuthBase):
    """Shows a token with each request; what ~/.netrc says of the host is not asked.

    Args:
        token: of the caller.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Show it with a request that is about to be sent."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def caller_of(path: Path, role: Role) -> AuthBase:
    """Return how to be let in, from a file of its owner.

    Args:
        path: a private key in PEM form, or a file of tokens.
        role: that a token must have; which role a key has, the service knows alone.

    Raises:
        InputError: if the file cannot be used, or others can read it.
    """
    if _begins(path, _PEM):
        return SigningKey(path)
    return BearerToken(token_of(path, role))


def _begins(path: Path, start: bytes) -> bool:
    """Return whether a file begins so; one that cannot be read is left to who reads it next."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(len(start)) == start
    except OSError:
        return False
