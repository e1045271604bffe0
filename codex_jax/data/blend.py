"""The rows of several stores in one endless order: each in its share, and shuffled anew whenever it is through."""

import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from codex_jax import config
from codex_jax.data import packing
from codex_jax.data.batch import Rows
from codex_jax.data.order import Shuffled
from codex_jax.data.report import Report
from codex_jax.data.store import Store
from codex_jax.data.table import open_rows


# In every run of so many rows each store has its exact share, but for a fraction of a row.
_BLOCK = 1024
# How far a set of rows without repetition looks, in its own size: sources of little weight come in late.
_FARTHEST = 64


class Blend:
    """Says which row of which store stands at any place, and reads it."""

    def __init__(
        self, stores: Sequence[Store], weights: Sequence[Fraction], split: str, data: config.Data, seed: int
    ) -> None:
        """`weights` say how often a row of each store comes beside those of the others; 0 for all: alike."""
        self.reports = [store.report(split) for store in stores]
        self._rows = [open_rows(store, split, data) for store in stores]
        self.counts = [rows.count for rows in self._rows]
        self._seed = seed
        sizes = [(weight or 1) * rows.count for weight, rows in zip(weights, self._rows, strict=True)]
        self._shares = [Fraction(size, sum(sizes) or 1) for size in sizes]
        self._largest = self._shares.index(max(self._shares))

    def report(self) -> Report:
        """Return what became of every document that was read for these rows."""
        total = Report()
        for report in self.reports:
            total.add(report)
        return total

    def deal(self, places_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each place, the store, and which of its rows, counted on through all its epochs."""
        if len(self._rows) == 1:
            return np.zeros_like(places_B), places_B
        stores_B, numbers_B = np.empty_like(places_B), np.empty_like(places_B)
        for block in np.unique(places_B // _BLOCK).tolist():
            here_B = places_B // _BLOCK == block
            slots_B = _mixed(self._seed, block)(places_B[here_B] - block * _BLOCK)
            before, after = self._dealt(block), self._dealt(block + 1)
            ends_S = np.cumsum([high - low for low, high in zip(before, after, strict=True)])
            stores_B[here_B] = found_B = ends_S.searchsorted(slots_B, "right")
            begins_S = np.array(before) - (ends_S - np.diff(ends_S, prepend=0))
            numbers_B[here_B] = slots_B + begins_S[found_B]
        return stores_B, numbers_B

    def __call__(self, stores_B: np.ndarray, numbers_B: np.ndarray) -> Rows:
        """Return the rows of these stores and numbers, each store in the order of its epoch."""
        parts, places = [], []
        for index, rows in enumerate(self._rows):
            mine_B = np.flatnonzero(stores_B == index)
            if mine_B.size:
                parts.append(rows(self._shuffled(index, numbers_B[mine_B])))
                places.append(mine_B)
        return packing.take(packing.join(parts), np.argsort(np.concatenate(places), kind="stable"))

    def first(self, num_rows: int) -> Rows:
        """Return the first rows, none of them twice; fewer where there are no more."""
        span = num_rows = min(num_rows, sum(self.counts))
        if not num_rows:
            return self._rows[0](np.zeros(0, np.int64))
        while True:
            stores_B, numbers_B = self.deal(np.arange(span))
            once_B = np.flatnonzero(numbers_B < np.array(self.counts)[stores_B])[:num_rows]
            if once_B.size == num_rows or span > _FARTHEST * num_rows:
                return self(stores_B[once_B], numbers_B[once_B])
            span *= 2  # a store with a large share was through: what comes again of it does not count

    def in_order(self, num_rows: int) -> Iterator[Rows]:
        """Yield every row once, store by store as they lie there, up to `num_rows` at a time."""
        for rows in self._rows:
            for at in range(0, rows.count, num_rows):
                yield rows(np.arange(at, min(at + num_rows, rows.count)))

    def _dealt(self, block: int) -> list[int]:
        """Return how many rows of each store come before a block; the largest has what the others leave."""
        dealt = [math.floor(block * _BLOCK * share) for share in self._shares]
        dealt[self._largest] += block * _BLOCK - sum(dealt)
        return dealt

    def _shuffled(self, index: int, numbers_B: np.ndarray) -> np.ndarray:
        epochs_B, places_B = np.divmod(numbers_B, self.counts[index])
        rows_B = np.empty_like(places_B)
        for epoch in np.unique(epochs_B).tolist():
            in_epoch_B = epochs_B == epoch
            order = _order(self.counts[index], self._seed, index, epoch)
            rows_B[in_epoch_B] = order(places_B[in_epoch_B])
        return rows_B


@functools.lru_cache(maxsize=64)
def _order(num_rows: int, seed: int, store: int, epoch: int) -> Shuffled:
    return Shuffled(num_rows, ("rows", seed, store, epoch))


@functools.lru_cache(maxsize=4)
def _mixed(seed: int, block: int) -> Shuffled:
    return Shuffled(_BLOCK, ("mix", seed, block))
