"""The writer of a run: the ledger at once, and copies to the sinks that are switched on, each behind a guard."""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_jax import digest
from codex_jax.console import warn
from codex_jax.tracking import calls, guard, ledger
from codex_jax.tracking.chain import Head
from codex_jax.tracking.sink import Sink, Source
from codex_jax.tracking.writer import Writer


CLOSE_SECS = 10.0  # for all sinks together


def open_writer(
    source: Source,
    sinks: Mapping[str, type[Sink]],
    *,
    resume_step: int,
    owes_evaluation: bool = False,
    outward: Callable[[Any], Any] = lambda value: value,
) -> "MultiWriter":
    """Open the ledger at `resume_step` (0: start over) and the sinks; use the result as a context manager.

    `owes_evaluation`: that step will be evaluated, again if it was. `outward` makes of an event's fields what a file
    may hold of them. Raises AssetError when the ledger is damaged before its last line, TrainingStopped when it cannot
    be written.
    """
    book = ledger.Ledger(
        source.workdir,
        run_id=source.run_id,
        resume_step=resume_step,
        owes_evaluation=owes_evaluation,
        rotate_bytes=source.tracking.rotate_bytes,
    )
    return MultiWriter(book, source, sinks, outward=outward)


class MultiWriter(Writer):
    """Writes each row to the ledger, then hands it to every sink; owns all of them."""

    def __init__(
        self,
        book: ledger.Ledger,
        source: Source,
        sinks: Mapping[str, type[Sink]],
        *,
        close_secs: float = CLOSE_SECS,
        outward: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._ledger, self._workdir, self._outward = book, source.workdir, outward
        self._step = book.resume_step
        self._close_secs = close_secs
        self._is_open = True
        known = dataclasses.replace(source, sizes=_sizes(book, source.workdir))
        self._guards = [
            guard.Guard(name, lambda kind=kind: kind(known), calls.history(known))  # type: ignore[misc]
            for name, kind in sinks.items()
        ]
        self._shows_figures = any(kind.figure is not Sink.figure for kind in sinks.values())
        self._reporting = threading.Lock()
        self._unreported = list(self._guards)
        places = {name: kind.address(source.tracking) for name, kind in sinks.items()}
        self._remotes = {name: address for name, address in places.items() if address}
        for name, address in self._remotes.items():
            warn(f"tracking.allow_remote lets the sink {name} send this run to {address}")

    def scalars(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Record plain numbers of one step and split."""
        row = self._ledger.metrics(step, split, metrics)
        self._pass_on(step, calls.scalars(row))

    def beside(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """Pass numbers to the sinks alone."""
        for sink in self._guards:
            sink.put("scalars", step, split, dict(metrics), round(time.time(), 3))

    def text(self, step: int, name: str, text: str) -> None:
        """Record generated text: event "sample" of the ledger, and in every sink."""
        row = self._ledger.event("sample", step, {"name": name, "text": text})
        self._pass_on(step, calls.text(row))

    def histogram(self, step: int, name: str, edges: Sequence[float], counts: Sequence[int]) -> None:
        """Record a histogram: event "histogram" of the ledger, and in the sinks that can hold it."""
        if len(edges) != len(counts) + 1 or not all(math.isfinite(edge) for edge in edges):
            raise ValueError(f"histogram {name}: {len(counts)} counts need {len(counts) + 1} finite edges")
        row = self._ledger.event("histogram", step, {"name": name, "edges": list(edges), "counts": list(counts)})
        self._pass_on(step, calls.of_event(self._workdir, row))

    def figure(self, step: int, name: str, path: Path) -> None:
        """Record a picture: event "figure" of the ledger, and in the sinks that can hold it."""
        self._record(step, ledger.FIGURE, name, path)

    def artifact(self, step: int, name: str, path: Path) -> None:
        """Record a file: event "artifact" of the ledger, and in the sinks that can hold it."""
        self._record(step, ledger.ARTIFACT, name, path)

    def report(self, step: int) -> None:
        """Pass report.html to the sinks that can hold it."""
        for call in calls.report(self._workdir, step):
            self._pass_on(step, call)

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> None:
        """Record something that happened, in the ledger only."""
        self._ledger.event(name, step, self._outward(fields))  # nothing else: the thread that saves calls it, too

    def head(self) -> Head:
        """Return the head of the events written so far."""
        return self._ledger.head()

    def sync(self) -> Head:
        """Return the head of the events when the ledger up to it is safe on disk."""
        head = self._ledger.sync()
        for sink in self._guards:
            sink.put("flush")
        return head

    def close(self, status: str) -> None:
        """Let the sinks finish within a bounded time, then close the ledger."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._close_sinks(status)
            self._ledger.sync()
        finally:
            self._ledger.close()

    @property
    def shows_figures(self) -> bool:
        """Whether a sink is on that has a place for figures."""
        return self._shows_figures

    def _record(self, step: int, kind: str, name: str, path: Path) -> None:
        file = path.relative_to(self._workdir).as_posix()
        row = self._ledger.event(kind, step, {"name": name, "file": file, "sha256": digest.of_file(path)})
        self._pass_on(step, calls.file(self._workdir, row))

    def _pass_on(self, step: int, call: calls.Call | None) -> None:
        if call is None:
            return
        method, arguments = call
        self._step = step
        for sink in self._guards:
            sink.put(method, *arguments)
        self._report()

    def _report(self) -> None:
        """Write one event for every sink that sends the run away, and for every one that was dropped."""
        with self._reporting:
            for name, address in self._remotes.items():
                self.event("sink.remote", self._step, {"sink": name, "address": address})
            self._remotes = {}
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
        self._report()
        for sink in self._guards:
            if sink.dropped:
                self._ledger.event("sink.dropped", self._step, {"sink": sink.name, "calls": sink.dropped})


def _sizes(book: ledger.Ledger, workdir: Path) -> dict[str, int]:
    system = workdir / calls.SYSTEM
    metrics, events = book.sizes()
    return {
        ledger.METRICS: metrics,
        ledger.EVENTS: events,
        calls.SYSTEM: system.stat().st_size if system.exists() else 0,
    }
