"""Which units come when: each corpus of a mixture in an endless row of permutations, dealt out in fixed shares.

Everything is computed from a window's number; nothing is held in memory.
"""

import functools
import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np


# With four a Feistel network is a pseudo-random permutation (Luby and Rackoff 1988); small halves mix better with more.
_ROUNDS = 6


class Size(NamedTuple):
    """How large a corpus is, and its share of the mixture."""

    num_units: int
    num_bytes: int
    weight: Fraction
    """of the text read, beside the others' weights; the number of bytes where each corpus counts as large as it is"""
    ends_F: np.ndarray | None = None
    """where the units of a file are read in their order: int64, units of each file and all before it"""


class Order(NamedTuple):
    """Which units make up which window. In `num_windows` windows, an epoch, every unit comes once or more."""

    num_units: tuple[int, ...]
    """of each corpus"""
    per_window: tuple[Fraction, ...]
    """units of each corpus in a window, on average"""
    num_windows: int
    seed: int
    ends: tuple[np.ndarray | None, ...]
    """of each corpus, as in Size: the units are shuffled, or the files, with the units of each in their order"""

    def units(self, window: int) -> list[list[int]]:
        """Return the units of each corpus in a window, counted on through all epochs."""
        return [
            [self._unit(corpus, place) for place in range(math.floor(window * per), math.floor((window + 1) * per))]
            for corpus, per in enumerate(self.per_window)
        ]

    def _unit(self, corpus: int, place: int) -> int:
        epoch, index = divmod(place, self.num_units[corpus])
        key = ("units", self.seed, corpus, epoch)
        ends_F = self.ends[corpus]
        return permuted(index, self.num_units[corpus], key) if ends_F is None else _in_files(index, ends_F, key)


def make_order(sizes: Sequence[Size], window_bytes: int, seed: int) -> Order:
    """Return the order of a mixture in windows of about `window_bytes`.

    The corpus that lasts longest at its weight is read once in an epoch, and the others as often as their weights ask.
    """
    longest = max(Fraction(size.num_bytes) / size.weight for size in sizes)
    passes = [longest * size.weight / size.num_bytes for size in sizes]
    epoch_bytes = sum(times * size.num_bytes for times, size in zip(passes, sizes, strict=True))
    epoch_units = sum(times * size.num_units for times, size in zip(passes, sizes, strict=True))
    windows = min(math.ceil(epoch_bytes / window_bytes), math.floor(epoch_units))
    per_window = tuple(times * size.num_units / windows for times, size in zip(passes, sizes, strict=True))
    ends = tuple(size.ends_F for size in sizes)
    return Order(tuple(size.num_units for size in sizes), per_window, windows, seed, ends)


def _in_files(index: int, ends_F: np.ndarray, key: tuple[str | int, ...]) -> int:
    """Return the unit at place `index` where the files come in the order of `key`, and of each its units in theirs."""
    files_F = _shuffled(ends_F.size, key)
    behind_F = np.cumsum(np.diff(ends_F, prepend=0)[files_F])
    place = int(behind_F.searchsorted(index, "right"))
    return int(ends_F[files_F[place]] - (behind_F[place] - index))


@functools.lru_cache(maxsize=8)
def _shuffled(num_files: int, key: tuple[str | int, ...]) -> np.ndarray:
    return Shuffled(num_files, key)(np.arange(num_files))


def permuted(index: int, size: int, key: tuple[str | int, ...]) -> int:
    """Return the number at place `index` of the permutation of range(`size`) that belongs to `key`."""
    half = ((size - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for place in range(_ROUNDS):
            left, right = right, left ^ (number_of(*key, place, right) & mask)
        index = left << half | right
        # The network permutes a power of four below 4 x size; walking on from what is too large stays a permutation.
        if index < size:
            return index


class Shuffled:
    """The permutation that `permuted` computes place by place, for many places at once.

    What the network draws is kept in a table of six times the root of the size: a permutation of a billion is made in
    half a second and takes 3 MB.
    """

    def __init__(self, size: int, key: tuple[str | int, ...]) -> None:
        self._size = size
        self._half = ((size - 1).bit_length() + 1) // 2
        mask = (1 << self._half) - 1
        self._drawn = [
            np.array([number_of(*key, place, right) & mask for right in range(mask + 1)], np.int64)
            for place in range(_ROUNDS)
        ]

    def __call__(self, places_N: np.ndarray) -> np.ndarray:
        """Return the numbers at some places."""
        found_N = self._network(places_N)
        while (outside_N := found_N >= self._size).any():
            found_N[outside_N] = self._network(found_N[outside_N])
        return found_N

    def _network(self, places_N: np.ndarray) -> np.ndarray:
        left_N, right_N = places_N >> self._half, places_N & ((1 << self._half) - 1)
        for drawn in self._drawn:
            left_N, right_N = right_N, left_N ^ drawn[right_N]
        return left_N << self._half | right_N


def number_of(*parts: str | int) -> int:
    """Return 128 bits that depend on all parts and look like chance."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:16], "big")
