"""The same cache in Redis, for many machines; `market.cache` imports it when it is asked for.

Redis is never waited for long and never trusted with a result: what it does not have, does not
give in time, or gives back other than it was written is built anew.
"""

import hashlib
import io
import logging
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from market.cache import CORRUPT, Arrays, read_archive, without_password
from market.errors import InputError

logger = logging.getLogger(__name__)

PREFIX = "tercet:"
HEADER = struct.Struct(">8sQ32s")  # format, number of chunks, sha256 of the whole content
FORMAT = b"tercet 1"
CHUNK = 8 * 1024**2  # bytes; one value of Redis holds at most 512 MiB, and blocks it while it moves
EXPIRY_S = 7 * 86400  # every day has new bars, and the features of the old ones are no more
CONNECT_S = 0.25
ANSWER_S = 1.0  # without one byte moving: time enough for a Redis that forks or loads
PATIENCE_S = 30.0  # for one whole group; what Redis moves more slowly is as fast to build

_FAILED = (redis.RedisError, OSError)


class RedisCache:
    """Named groups of arrays in a Redis, a header and its chunks per key.

    Args:
        url: redis://, rediss:// (TLS) or unix://, as redis-py reads it; nothing is connected yet.

    Raises:
        InputError: if the URL cannot be understood.
    """

    shared = True

    def __init__(self, url: str) -> None:
        self._url, self._shown = url, without_password(url)
        try:
            with self._client() as client:
                client.connection_pool.make_connection()  # finds a bad option, connects nothing
        except (TypeError, ValueError, AttributeError, redis.RedisError) as error:
            raise InputError(f"market.cache: {self._shown}: {self._words(error)}") from None

    def array_group(self, key: str, build: Callable[[], Arrays]) -> Arrays:
        """Return the arrays stored under a key, building and storing them where there are none.

        Args:
            key: a hash of everything the arrays depend on: equal keys mean equal content.
            build: makes the arrays; called at most once. No dtype may need pickle.

        Returns:
            The arrays by name, as `build` made them. A Redis that is down, hangs, forgets or
            returns something else is logged and costs seconds: it does not stop the caller.
        """
        answered = True
        try:
            with self._client() as client:
                content = _read(client, PREFIX + key)
            if content is not None:
                return read_archive(io.BytesIO(content))
        except _FAILED as error:
            answered = False
            logger.warning("going on without %s: %s", self._shown, self._words(error))
        except CORRUPT as error:
            logger.warning("rebuilding the corrupt %s in %s: %s", key, self._shown, error)
        arrays = build()
        if answered:  # else it would be waited for twice
            self._write(key, arrays)
        return arrays

    def _write(self, key: str, arrays: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            with self._client() as client:
                _write(client, PREFIX + key, buffer.getbuffer())
        except _FAILED as error:
            logger.warning("going on without %s in %s: %s", key, self._shown, self._words(error))

    def _client(self) -> redis.Redis:
        """Return a client that tries once and gives up soon; the URL's options stand above."""
        return redis.Redis.from_url(
            self._url,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            socket_read_size=1024**2,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # the one that every server speaks
        )

    def _words(self, error: Exception) -> str:
        """Return an error's first words; a server may repeat what it refused, password and all."""
        words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        password = urlsplit(self._url).password
        return words.replace(unquote(password), "***") if password else words


def _read(client: redis.Redis, key: str) -> bytes | None:
    """Return the content of a key, or None where Redis does not have all of it.

    Raises:
        ValueError: if it is not what was written.
        TimeoutError: if it comes too slowly.
    """
    header = _get(client, key)
    if header is None:
        return None
    if len(header) != HEADER.size or not header.startswith(FORMAT):
        raise ValueError(f"no header of {FORMAT.decode()!r}")
    _, count, digest = HEADER.unpack(header)
    found, chunks, until = hashlib.sha256(), [], time.monotonic() + PATIENCE_S
    for index in range(count):
        chunk = _get(client, f"{key}:{index}")
        if chunk is None:  # evicted
            return None
        found.update(chunk)
        chunks.append(chunk)
        _require_time(until)
    if found.digest() != digest:
        raise ValueError("its sha256 is another")
    return b"".join(chunks)


def _get(client: redis.Redis, key: str) -> bytes | None:
    value = client.get(key)
    if isinstance(value, str):
        raise ValueError("the URL's decode_responses makes text of bytes")
    return value


def _write(client: redis.Redis, key: str, content: memoryview) -> None:
    """Write the chunks, then the header that makes them valid; take back what is left of a failure.

    Raises:
        redis.RedisError, OSError: if Redis refuses, is gone or too slow.
    """
    written: list[str] = []
    until = time.monotonic() + PATIENCE_S
    try:
        for index, start in enumerate(range(0, len(content), CHUNK)):
            client.set(f"{key}:{index}", content[start : start + CHUNK], ex=EXPIRY_S)
            written.append(f"{key}:{index}")
            _require_time(until)
        digest = hashlib.sha256(content).digest()
        client.set(key, HEADER.pack(FORMAT, len(written), digest), ex=EXPIRY_S)
    except redis.ResponseError:  # out of memory: what no header names would only fill it
        if written:
            client.unlink(*written)
        raise


def _require_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError(f"slower than {PATIENCE_S:.0f} s for one group of arrays")
