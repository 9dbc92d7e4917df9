"""Work on blocks of names or sessions in threads: NumPy and TA-Lib release the interpreter lock.

A block is small enough for a processor's cache, so its temporaries never reach main memory.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

NAMES_PER_BLOCK = 32


def blocks(length: int, size: int) -> list[slice]:
    """Cut an axis into blocks of `size`, the last one shorter.

    >>> blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def each(work: Callable[[slice], None], parts: Sequence[slice]) -> None:
    """Call `work` for every part, in as many threads as there are processors.

    Args:
        work: writes to a place of its own for every part.
        parts: of an axis.
    """
    if len(parts) < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(work, parts):  # raises what the work raised
            pass
