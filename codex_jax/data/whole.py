"""A held-out split as a whole: every document once, in batches that are made as they are asked for."""

from collections.abc import Iterator

from codex_jax.data import packing, validation
from codex_jax.data.batch import Batch, Rows
from codex_jax.data.blend import Blend
from codex_jax.data.parting import Parting
from codex_jax.data.report import Quarantine, Report
from codex_jax.data.window import Builder
from codex_jax.errors import AssetError


# Of a store, so many rows are copied at a time.
_ROWS_AT_ONCE = 1024


class Whole(Iterator[Batch]):
    """Batches up to the end; the last one is filled up with padding. `report` counts what was read for them so far."""

    def __init__(self, rows: Iterator[Rows], report: Report, part: Parting, batch_size: int) -> None:
        self.report = report
        self._batches = _batches(rows, part, batch_size)

    def __next__(self) -> Batch:
        """Return the next batch; errors are those of reading, and AssetError where there is no document at all."""
        batch = next(self._batches, None)
        if batch is None:
            if not self.report.trained:
                raise AssetError(f"none of the {self.report.read:,} documents read is of this split")
            raise StopIteration
        return batch


def of_sources(build: Builder, batch_size: int) -> Whole:
    """Return the batches of one pass of `build`'s order."""
    report = Report()
    return Whole(_windows(build, report), report, build.part, batch_size)


def of_stores(blend: Blend, part: Parting, batch_size: int) -> Whole:
    """Return the batches of every row of the stores, store by store."""
    return Whole(blend.in_order(_ROWS_AT_ONCE), blend.report(), part, batch_size)


def _windows(build: Builder, report: Report) -> Iterator[Rows]:
    quarantine = Quarantine(build.data.max_quarantined)
    for number in range(build.order.num_windows):
        window = build(number)
        quarantine.check([window.report], complete=number == build.order.num_windows - 1)
        window.report.findings, window.report.rows = [], []  # counted; their places are in the ledger of the run
        report.add(window.report)
        yield window.rows


def _batches(parts: Iterator[Rows], part: Parting, batch_size: int) -> Iterator[Batch]:
    """Yield batches cut from rows that come in parts of any size."""
    waiting: list[Rows] = []
    for more in parts:
        rows = packing.join([*waiting, more])
        full = len(rows.tokens_BM) // batch_size * batch_size
        yield from validation.cut(packing.take(rows, slice(full)), batch_size, part)
        waiting = [packing.take(rows, slice(full, None))]
    if waiting:
        yield from validation.cut(waiting[0], batch_size, part)
