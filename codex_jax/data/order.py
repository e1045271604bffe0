"""The order of an epoch: a permutation of all units, computed one place at a time and never held in memory."""

import hashlib
from typing import NamedTuple

import numpy as np

from codex_jax.data.corpus import Corpus


# With four a Feistel network is a pseudo-random permutation (Luby and Rackoff 1988); small halves mix better with more.
_ROUNDS = 6


class Order(NamedTuple):
    """Which units make up which window: a permutation of all units for each epoch, dealt out like cards."""

    num_units: int
    num_windows: int
    seed: int

    def units(self, epoch: int, window: int) -> list[int]:
        """Return the units of a window; every unit is in exactly one window of an epoch."""
        places = range(window, self.num_units, self.num_windows)
        return [permuted(place, self.num_units, ("units", self.seed, epoch)) for place in places]


def make_order(corpus: Corpus, window_bytes: int, seed: int) -> Order:
    """Return the order of a corpus in windows of about `window_bytes`."""
    windows = min(-(-corpus.num_bytes // window_bytes), corpus.num_units)
    return Order(corpus.num_units, windows, seed)


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
