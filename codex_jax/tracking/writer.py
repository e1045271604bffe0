"""The one object a run reports to: it writes the ledger at once and hands copies to the sinks that are switched on."""

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from codex_jax import config
from codex_jax.errors import CodexError, ConfigError, Interrupted
from codex_jax.tracking import guard, ledger
from codex_jax.tracking.chain import Head
from codex_jax.tracking.sink import Sink
from codex_jax.tracking.sinks import csv_file, mlflow, tensorboard, wandb


log = logging.getLogger(__name__)

CLOSE_SECS = 10.0  # for all sinks together


def open_writer(
    workdir: Path,
    *,
    run_id: str,
    resume_step: int,
    owes_evaluation: bool = False,
    tracking: config.Tracking,
    settings: Mapping[str, Any],
    tags: Mapping[str, str],
    outward: Callable[[Any], Any] = lambda value: value,
) -> "Writer":
    """Open the ledger at `resume_step` (0: start over) and the enabled sinks; use the result as a context manager.

    `owes_evaluation`: that step will be evaluated, again if it was.

    `settings` is the nested config that sinks show beside the curves, `tags` what they show where they list runs;
    `outward` makes of an event's fields what a file may hold of them. Raises ConfigError when an enabled sink's package
    is not installed, AssetError when the ledger is damaged before its last line, TrainingStopped when it cannot be
    written.
    """
    factories: dict[str, Callable[[], Sink]] = {}
    if tracking.csv.enabled:
        factories["csv"] = lambda: csv_file.CsvSink(workdir)
    if tracking.tensorboard.enabled:
        factories["tensorboard"] = lambda: tensorboard.TensorBoardSink(workdir, settings)
    if tracking.mlflow.enabled:
        factories["mlflow"] = lambda: mlflow.MlflowSink(workdir, run_id, settings, tags)
    if tracking.wandb.enabled:
        factories["wandb"] = lambda: wandb.WandbSink(workdir, run_id, settings, tags)
    for name, package in {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}.items():
        if name in factories and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"tracking.{name}.enabled needs the package {package}: install it or set tracking.{name}.enabled=false"
            )
    return Writer(
        workdir,
        run_id=run_id,
        resume_step=resume_step,
        owes_evaluation=owes_evaluation,
        sinks=factories,
        outward=outward,
    )


class Writer:
    """Writes rows in order; every method but `close` returns without waiting for a sink.

    Leaving the `with` block by an exception closes every sink with status "failed" ("interrupted" for Interrupted), and
    the exception goes on unchanged. All rows of step N must be written before the save of checkpoint N begins.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        run_id: str,
        resume_step: int,
        owes_evaluation: bool = False,
        sinks: Mapping[str, Callable[[], Sink]],
        close_secs: float = CLOSE_SECS,
        outward: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._outward = outward
        self._ledger = ledger.Ledger(workdir, run_id=run_id, resume_step=resume_step, owes_evaluation=owes_evaluation)
        self._step = resume_step
        self._close_secs = close_secs
        self._is_open = True
        sizes = self._ledger.sizes()
        self._guards = [guard.Guard(name, factory, _history(workdir, sizes)) for name, factory in sinks.items()]
        self._unreported = list(self._guards)

    def scalars(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Record plain numbers of one step and split, for example split "train" with "loss" and "grad_norm"."""
        row = self._ledger.metrics(step, split, metrics)
        self._pass_on(step, _scalars(row))

    def text(self, step: int, name: str, text: str) -> None:
        """Record generated text: event "sample" of the ledger, and in every sink."""
        row = self._ledger.event("sample", step, {"name": name, "text": text})
        self._pass_on(step, _text(row))

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        """Record something that happened; it is kept in the ledger only."""
        self._ledger.event(name, step, self._outward(fields))  # nothing else: the thread that saves calls it, too

    def head(self) -> Head:
        """Return the head of the events written so far; a checkpoint keeps it."""
        return self._ledger.head()

    def sync(self) -> Head:
        """Return the head of the events when the ledger up to it is safe on disk; any thread may call it."""
        head = self._ledger.sync()
        for sink in self._guards:
            sink.put("flush")
        return head

    def close(self, status: str) -> None:
        """Let the sinks finish within a bounded time, then close the ledger; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._close_sinks(status)
            self._ledger.sync()
        finally:
            self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return self.close("finished")
        try:
            self.close("interrupted" if isinstance(error, Interrupted) else "failed")
        except CodexError as second:  # the first error is the one to show
            log.warning("while closing the ledger: %s", second)
        return None

    def _pass_on(self, step: int, call: guard.Call) -> None:
        method, arguments = call
        self._step = step
        for sink in self._guards:
            sink.put(method, *arguments)
        self._report_problems()

    def _report_problems(self) -> None:
        """Write one event for every sink that was dropped since the last call."""
        for sink in [sink for sink in self._unreported if sink.problem]:
            self._unreported.remove(sink)
            self.event("sink.degraded", self._step, {"sink": sink.name, "reason": sink.problem})

    def _close_sinks(self, status: str) -> None:
        for sink in self._guards:
            sink.finish(status)
        for sink in self._guards:
            sink.wait_until_open()
        deadline = time.monotonic() + self._close_secs
        for sink in self._guards:
            sink.join(deadline)
        self._report_problems()
        for sink in self._guards:
            if sink.dropped:
                self._ledger.event("sink.dropped", self._step, {"sink": sink.name, "calls": sink.dropped})


class Nowhere(Writer):
    """What a process reports to whose run is written down by another."""

    def __init__(self) -> None:
        pass

    def scalars(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Forget it."""

    def text(self, step: int, name: str, text: str) -> None:
        """Forget it."""

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        """Forget it."""

    def head(self) -> Head:
        """Return the head of no events."""
        return Head()

    def sync(self) -> Head:
        """Return the head of no events."""
        return Head()

    def close(self, status: str) -> None:
        """Return at once."""


def _history(workdir: Path, sizes: Sequence[int]) -> Iterator[guard.Call]:
    """Yield what the ledger held when it was opened, as calls of a sink."""
    for row in ledger.read(workdir / ledger.METRICS, until=sizes[0]):
        yield _scalars(row)
    for row in ledger.read(workdir / ledger.EVENTS, until=sizes[1]):
        if row["event"] == "sample":
            yield _text(row)


def _scalars(row: Mapping[str, Any]) -> guard.Call:
    values = {name: float("nan") if value is None else value for name, value in row["metrics"].items()}
    return "scalars", (row["step"], row["split"], values, row["time"])


def _text(row: Mapping[str, Any]) -> guard.Call:
    # A lone surrogate is legal in the ledger's JSON and in nothing that encodes to UTF-8.
    text = row["text"].encode("utf-8", "replace").decode("utf-8")
    return "text", (row["step"], row["name"], text, row["time"])
