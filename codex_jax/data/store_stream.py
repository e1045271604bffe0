"""The training stream of a store: batch i is a pure function of seed and i, so that going on is a seek."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from codex_jax import config
from codex_jax.data import packing, position
from codex_jax.data.batch import Batch
from codex_jax.data.order import Shuffled
from codex_jax.data.report import Report
from codex_jax.data.store import Store
from codex_jax.data.table import open_rows


class StoreStream(Iterator[Batch]):
    """Batches without end, in an order that depends on the fingerprint alone.

    `state()` is the row after the last batch handed out: plain JSON, independent of the batch size, the number of
    hosts and all settings of workers. Nothing is prepared ahead: a batch is copied from memory while the step before
    it runs.
    """

    def __init__(self, store: Store, data: config.Data, seed: int, batch_size: int, shard: tuple[int, int]) -> None:
        """Yield the part `shard` = (index, count) of every batch of `batch_size` rows."""
        self.fingerprint = {
            **store.content,
            "tokens": store.tokens,
            "run.seed": seed,
            "data.sequence_length": data.sequence_length,
            "data.packing": data.packing,
            "data.isolate_documents": data.isolate_documents,
        }
        self._data = data
        self._seed = seed
        self._rows = open_rows(store, "train", data)
        self._num_rows = self._rows.count
        self._report = store.report("train")
        self._reports: list[Report] = []
        self._batch_size = batch_size
        self._own = packing.own_rows(batch_size, shard)
        self._row = 0

    def __next__(self) -> Batch:
        """Return the next batch."""
        places_B = np.arange(self._row, self._row + self._batch_size)
        epochs_B = places_B // self._num_rows
        self._reports += [self._report for epoch in np.unique(epochs_B) if epoch * self._num_rows >= self._row]
        self._row += self._batch_size
        rows_B = self._shuffled(places_B[self._own], epochs_B[self._own])
        return packing.to_batch(self._rows(rows_B), isolate=self._data.isolate_documents)

    def take_reports(self) -> list[Report]:
        """Return what became of all documents, once with the first batch of each epoch."""
        taken, self._reports = self._reports, []
        return taken

    def state(self) -> dict[str, Any]:
        """Return the position as JSON: `restore` goes on with the batch after the last one handed out."""
        return {"row": self._row, "fingerprint": self.fingerprint}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position; AssetError, naming what differs, when it is one of other data or another order."""
        position.check(state, self.fingerprint, ("row",))
        self._row, self._reports = state["row"], []

    def seek(self, batch: int) -> None:
        """Go to a batch by its number, from 0."""
        self._row = batch * self._batch_size

    def close(self) -> None:
        """Do nothing: maps of files end with their last use."""

    def _shuffled(self, places_B: np.ndarray, epochs_B: np.ndarray) -> np.ndarray:
        rows_B = np.empty_like(places_B)
        for epoch in np.unique(epochs_B):
            in_epoch_B = epochs_B == epoch
            rows_B[in_epoch_B] = _order(self._num_rows, self._seed, int(epoch))(
                places_B[in_epoch_B] - epoch * self._num_rows
            )
        return rows_B


@functools.lru_cache(maxsize=2)
def _order(num_rows: int, seed: int, epoch: int) -> Shuffled:
    return Shuffled(num_rows, ("rows", seed, epoch))
