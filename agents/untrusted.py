"""Read what nobody vouches for: plain files of bounded size, JSON without second meanings."""

import os
import stat
from pathlib import Path

from market.errors import InputError


def read_plain(path: Path, most_bytes: int) -> bytes:
    """Return the content of a regular file, never through a link in its last part.

    A pipe or a device is refused without waiting for what it may say.

    Raises:
        InputError: if the file cannot be read, is no regular file or is larger than `most_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise InputError(f"{path} cannot be read: {why}") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} cannot be read: it is no regular file")
        content = file.read(most_bytes + 1) if found.st_size <= most_bytes else None
    if content is None or len(content) > most_bytes:
        raise InputError(f"{path} is larger than {most_bytes} bytes, the most that is read")
    return content
