"""Put features on one scale: across names on the day, or over time with numbers from training.

Missing is NaN on the way in and 0, the centre, on the way out. A transform over time is fitted,
so it carries the window it was fitted on and refuses what it must not see.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.bars import BoolArray, FloatArray
from market.errors import InputError
from market.threads import blocks, each

Float32Array = NDArray[np.float32]
log = logging.getLogger(__name__)
ELEMENTS_PER_BLOCK = 1 << 18  # of a temporary, so that it stays in a processor's cache


def _row_blocks(shape: tuple[int, ...]) -> list[slice]:
    return blocks(shape[0], max(ELEMENTS_PER_BLOCK // max(int(np.prod(shape[1:])), 1), 1))


def zscore_across(values: Float32Array, mask: BoolArray, clip: float) -> None:
    """Replace each value, in place, by its z-score over the names of its session.

    Args:
        values: (T, N, F); overwritten by numbers in [-clip, clip], 0 where the value was not
            finite, the name not in the mask, or all names equal.
        mask: (T, N) names that take part.
        clip: standard deviations, > 0.
    """

    def standardise(rows: slice) -> None:
        block = values[rows]
        known = np.isfinite(block) & mask[rows, :, None]
        filled = np.where(known, block, 0.0).astype(np.float64)
        count = np.maximum(known.sum(axis=1), 1)[:, None, :]
        deviation = filled - filled.sum(axis=1, keepdims=True) / count
        deviation[~known] = 0.0
        spread = np.sqrt((deviation * deviation).sum(axis=1, keepdims=True) / count)
        # Equal values leave rounding behind: a spread below float32's resolution is none.
        spread[spread <= 1e-6 * np.abs(filled).max(axis=1, keepdims=True)] = np.inf
        deviation /= spread
        np.clip(deviation, -clip, clip, out=block, casting="same_kind")

    each(standardise, _row_blocks(values.shape))


def rank_across(values: Float32Array, mask: BoolArray) -> None:
    """Replace each value, in place, by its rank over the names of its session.

    Args:
        values: (T, N, F); overwritten by numbers from -1 (lowest) to 1 (highest) in equal steps,
            the mean rank where values are equal, 0 where unknown or alone.
        mask: (T, N) names that take part.
    """

    def rank(rows: slice) -> None:
        block = values[rows]
        known = np.isfinite(block) & mask[rows, :, None]
        ordered = np.where(known, block, np.inf)
        count = known.sum(axis=1, keepdims=True)
        below = _position(ordered)
        above = count - 1 - _position(np.where(known, -block, np.inf))
        place = (below + above) / np.maximum(count - 1, 1) - 1.0
        block[...] = np.where(known & (count > 1), place, 0.0)

    each(rank, _row_blocks(values.shape))


def _position(values: Float32Array) -> NDArray[np.int64]:
    """Return, over axis 1, how many entries are strictly smaller than each."""
    order = np.argsort(values, axis=1, kind="stable")
    sorted_values = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = sorted_values[:, 1:] != sorted_values[:, :-1]
    index = np.arange(values.shape[1])[None, :, None]
    first = np.maximum.accumulate(np.where(new, index, 0), axis=1)
    result = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(result, order, first, axis=1)
    return result


@dataclass(frozen=True, slots=True)
class Window:
    """A named span of sessions.

    Args:
        label: what the span is for, such as "train" or "test".
        first: its first session, YYYY-MM-DD.
        last: its last session.
    """

    label: str
    first: str
    last: str

    @property
    def sealed(self) -> bool:
        """Return whether nothing may be fitted here."""
        return self.label.lower().startswith("test")

    def __str__(self) -> str:
        return f"{self.label} [{self.first}, {self.last}]"


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Mean and standard deviation of each series over one window.

    Args:
        names: M series.
        mean: M numbers, each in its series' unit.
        std: M numbers; 0 for a series that is constant or unknown in the window, which is then
            always 0, because nothing was learned about its scale.
        window: where the numbers come from.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: Window

    @classmethod
    def fit(cls, names: tuple[str, ...], values: FloatArray, window: Window) -> "Normaliser":
        """Take the moments of (T, M) `values`, the sessions of `window` and no others.

        Raises:
            InputError: if the window is labelled test.
        """
        if window.sealed:
            raise InputError(f"a normaliser cannot be fitted on {window}: the window is sealed")
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0.0).sum(axis=0) / count
        deviation = np.where(known, values - mean, 0.0)
        std = np.sqrt((deviation * deviation).sum(axis=0) / count)
        std[std <= 1e-12 * np.abs(mean)] = 0.0
        for name, number in zip(names, std.tolist(), strict=True):
            if number == 0.0:
                log.warning("%s is constant or unknown in %s: it stays 0", name, window)
        return cls(names, tuple(mean.tolist()), tuple(std.tolist()), window)

    def transform(self, values: FloatArray, window: Window, clip: float) -> Float32Array:
        """Return (T, M) `values` in standard deviations from the mean, clipped; 0 where unknown.

        Raises:
            InputError: if the window is labelled test and begins before the fitted one ends.
        """
        if window.sealed and window.first <= self.window.last:
            raise InputError(f"{window} begins before the end of the fitted window {self.window}")
        std = np.array(self.std)
        scaled = (values - np.array(self.mean)) / np.where(std > 0.0, std, np.inf)
        scaled = np.where(np.isfinite(scaled), scaled, 0.0)
        return np.clip(scaled, -clip, clip).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the window as JSON types."""
        return {
            "names": list(self.names),
            "mean": list(self.mean),
            "std": list(self.std),
            "window": {
                "label": self.window.label,
                "first": self.window.first,
                "last": self.window.last,
            },
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Normaliser":
        """Return what `to_dict` wrote."""
        return cls(
            tuple(record["names"]),
            tuple(record["mean"]),
            tuple(record["std"]),
            Window(**record["window"]),
        )
