"""The training stream: windows made ahead of time by Grain, cut into batches by a thread, resumable at every batch."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from codex_jax import amounts, config, exits
from codex_jax.data import packing, position, processes
from codex_jax.data.ahead import Ahead, Made
from codex_jax.data.batch import Batch, Rows
from codex_jax.data.report import Quarantine, Report
from codex_jax.data.window import Builder, Window
from codex_jax.errors import AssetError, CodexError, TrainingStopped


# What Grain says of a worker that ended without a word; no other error of its own has this text.
_LOST_WORKER = "Worker process was terminated unexpectedly"
_LOOK_EVERY_SECS = 0.2
# What is being made is finished when a stream is closed; a read that takes longer is left behind.
_CLOSE_SECS = 5.0


class Step(NamedTuple):
    """A batch, none when there is nothing to learn, and the reports of the windows it is the first to take rows of."""

    batch: Batch | None
    reports: list[Report]


class TrainStream(Iterator[Batch]):
    """Batches without end, in an order that depends on the fingerprint alone.

    Owns threads or processes: call `close`. `state()` is the position after the last batch handed out, whatever was
    prepared ahead; it is small, plain JSON, and independent of data.workers, data.prefetch_batches and the batch size.
    """

    def __init__(self, build: Builder, batch_size: int, fingerprint: dict[str, Any], shard: tuple[int, int]) -> None:
        """Yield the part `shard` = (index, count) of every batch of `batch_size` rows."""
        self.fingerprint = fingerprint
        self._build = build
        self._quarantine = Quarantine(build.data.max_quarantined)
        self._reports: list[Report] = []
        self._batches = Batches(build, batch_size)
        self._own = packing.own_rows(batch_size, shard)
        self._position = self._batches.get_state()
        self._ahead: Ahead[Step] | None = None

    def __next__(self) -> Batch:
        """Return the next batch, as `wait` does."""
        batch = self.wait(lambda: False)
        assert batch is not None
        return batch

    def wait(self, give_up: Callable[[], bool]) -> Batch | None:
        """Return the next batch; None when `give_up`, asked several times a second, says so before it comes.

        Raises TrainingStopped when it does not come within data.max_wait_secs, when too many documents could not be
        read or a worker was killed; AssetError when a file has changed or no document is left to train on.
        `take_reports` has what was read until then.
        """
        made = self._wait(give_up)
        if made is None:
            return None
        (batch, reports), self._position = made
        self._reports += reports
        opened = self._position["window"] + (self._position["row"] > 0)
        epoch = self._build.order.num_windows
        self._quarantine.check(reports, complete=opened >= epoch)
        if batch is None:
            raise AssetError(nothing_to_learn(reports[-epoch:]))
        return Batch(*(array[self._own] for array in batch))

    def _wait(self, give_up: Callable[[], bool]) -> Made[Step] | None:
        if self._ahead is None:
            self._ahead = Ahead(self._batches, self._build.data.prefetch_batches)
        looks, most = 0, self._build.data.max_wait_secs / _LOOK_EVERY_SECS
        try:
            while (made := self._ahead.get(_LOOK_EVERY_SECS)) is None:
                looks += 1
                if give_up():
                    return None
                if most and looks > most:  # counted, not by the clock: time in which the process is stopped is no wait
                    raise TrainingStopped(self._stuck())
        except CodexError as error:
            vars(error).pop("__notes__", None)  # Grain's advice about its traceback is not for who reads the message
            raise
        except RuntimeError as error:
            if _LOST_WORKER not in str(error):
                raise
            raise TrainingStopped(_lost_worker(self._build.data)) from error
        return made

    def _stuck(self) -> str:
        number, data = self._batches.get_state()["window"], self._build.data
        files = amounts.listed(self._build.names(number))
        return (
            f"no batch came within data.max_wait_secs={data.max_wait_secs:g}: window {number} of the data is not made, "
            f"which is read from {files}{processes.states()}. See to what hangs, or raise "
            "data.max_wait_secs where reading is only slow; the same command goes on from the last checkpoint"
        )

    def take_reports(self) -> list[Report]:
        """Return the reports of the batches since the last call. No window is reported twice, resumed or not."""
        taken, self._reports = self._reports, []
        return taken

    def state(self) -> dict[str, Any]:
        """Return the position as JSON: `restore` goes on with the batch after the last one handed out."""
        counts = {"read": self._quarantine.read, "quarantined": self._quarantine.quarantined}
        return {**self._position, **counts, "fingerprint": self.fingerprint}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position; AssetError, naming what differs, when it is one of other data or another order."""
        position.check(state, self.fingerprint, ("window", "row", "read", "quarantined"))
        self.close()
        self._position = {"window": state["window"], "row": state["row"]}
        self._batches.set_state(self._position)
        self._quarantine.read, self._quarantine.quarantined = state["read"], state["quarantined"]
        self._reports = []

    def close(self) -> None:
        """Stop the threads and processes; `state` and `take_reports` go on working.

        A read that hangs cannot be stopped, and is left behind: see `exits.leave_behind`.
        """
        if self._ahead is not None:
            if self._ahead.close(_CLOSE_SECS):
                self._batches.close()
            else:
                exits.leave_behind()
            self._ahead = None


class Batches:
    """Cuts windows into batches of `batch_size` rows; its state is the place of the next row."""

    def __init__(self, build: Builder, batch_size: int) -> None:
        self._build, self._part = build, build.part
        self._batch_size = batch_size
        self._window = self._row = 0
        self._current: Window | None = None
        self._windows: Any = None

    def __next__(self) -> Step:
        parts: list[Rows] = []
        reports: list[Report] = []
        missing, empty, epoch = self._batch_size, 0, self._build.order.num_windows
        while missing:
            window = self._open(reports)
            rows = packing.take(window.rows, slice(self._row, self._row + missing))
            parts.append(rows)
            taken = len(rows.tokens_BM)
            missing -= taken
            self._row += taken
            if self._row == len(window.rows.tokens_BM):
                self._window, self._row, self._current = self._window + 1, 0, None
            empty = 0 if taken else empty + 1
            if empty >= epoch and self._window % epoch == 0:
                return Step(None, reports)  # the last `epoch` windows were one epoch, and held nothing
        return Step(self._part(packing.join(parts)), reports)

    def get_state(self) -> dict[str, int]:
        """Return the window and the row in it that come next."""
        return {"window": self._window, "row": self._row}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to a row of a window."""
        self.close()
        self._window, self._row = state["window"], state["row"]

    def close(self) -> None:
        """Stop making windows; the next call of `next` begins again."""
        if self._windows is not None:
            self._windows.close()
        self._windows = self._current = None

    def _open(self, reports: list[Report]) -> Window:
        if self._current is None:
            if self._windows is None:
                self._windows = _windows_from(self._window, self._build)
            self._current = next(self._windows)
            if self._row == 0:
                reports.append(self._current.report)
            elif self._row >= len(self._current.rows.tokens_BM):
                raise AssetError(f"window {self._window} has no row {self._row}: the position is not one in these data")
        return self._current


def nothing_to_learn(reports: list[Report]) -> str:
    """Say why no document was left to train on."""
    total = Report()
    for report in reports:
        total.add(report)
    return (
        f"no document to train on: of {total.read} read, {total.held_out - total.duplicates} are held out by "
        f"data.validation_fraction, {total.duplicates} lie in validation_paths as well, {total.filtered} held no text "
        f"or nothing but secrets, {total.quarantined} could not be read; add documents to data.paths"
    )


def _windows_from(first: int, build: Builder) -> Any:
    """Return an iterator over windows, made in order by a thread or by data.workers processes, one ahead each."""
    import grain

    numbers = grain.MapDataset.range(first, 2**62).map(build)
    workers = build.data.workers
    if not workers:
        return iter(numbers.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)))
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads its flags, which exist only for programs that parse them with absl
    made = numbers.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
    return iter(made.mp_prefetch(options, worker_init_fn=_begin_worker))


def _begin_worker(index: int, count: int) -> None:
    processes.begin()  # Grain ends its workers itself


def _lost_worker(data: config.Data) -> str:
    return (
        f"a process of data.workers={data.workers} was killed, perhaps for want of memory: each holds a window of "
        f"data.window_bytes={data.window_bytes} and what is made of it. Lower either, or set data.workers=0; the same "
        "command goes on from the last checkpoint"
    )
