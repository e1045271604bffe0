"""The training stream of stores: batch i is a pure function of seed and i, so that going on is a seek."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from codex_jax.data import packing, position
from codex_jax.data.batch import Batch
from codex_jax.data.blend import Blend
from codex_jax.data.parting import Parting
from codex_jax.data.report import Report


class StoreStream(Iterator[Batch]):
    """Batches without end, in an order that depends on the fingerprint alone.

    `state()` is the row after the last batch handed out: plain JSON, independent of the batch size, the number of
    hosts and all settings of workers. Nothing is prepared ahead: a batch is copied from memory while the step before
    it runs.
    """

    def __init__(
        self,
        blend: Blend,
        part: Parting,
        batch_size: int,
        shard: tuple[int, int],
        fingerprint: Mapping[str, Any],
    ) -> None:
        """Yield the part `shard` = (index, count) of every batch of `batch_size` rows."""
        self.fingerprint = dict(fingerprint)
        self._blend = blend
        self._part = part
        self._reports: list[Report] = []
        self._batch_size = batch_size
        self._own = packing.own_rows(batch_size, shard)
        self._row = 0

    def __next__(self) -> Batch:
        """Return the next batch."""
        stores_B, numbers_B = self._blend.deal(np.arange(self._row, self._row + self._batch_size))
        begins_B = numbers_B % np.array(self._blend.counts)[stores_B] == 0
        self._reports += [self._blend.reports[store] for store in stores_B[begins_B].tolist()]
        self._row += self._batch_size
        return self._part(self._blend(stores_B[self._own], numbers_B[self._own]))

    def wait(self, give_up: Callable[[], bool]) -> Batch | None:
        """Return the next batch, which lies in the files: there is nothing to wait for, and nothing to give up."""
        return next(self)

    def take_reports(self) -> list[Report]:
        """Return what became of all documents of a store, once with the first row of each of its epochs."""
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
