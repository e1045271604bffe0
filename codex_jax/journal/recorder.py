"""Reads what a step reports while the next one runs, and writes it down: ledger rows, data events, progress lines."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax

from codex_jax import config
from codex_jax.console import say
from codex_jax.data.batch import Batch
from codex_jax.data.pipeline import Stream
from codex_jax.data.report import Blocked, Report
from codex_jax.errors import CodexError
from codex_jax.journal import accounts, health
from codex_jax.journal.health import Health
from codex_jax.journal.pace import Pace
from codex_jax.journal.totals import Totals
from codex_jax.safety.gate import Verdict
from codex_jax.tracking import ledger, progress
from codex_jax.tracking.writer import Writer
from codex_jax.training import losses
from codex_jax.training.layers import Layers, histograms, norms
from codex_jax.training.program import Program
from codex_jax.training.step import Output


class _Pending(NamedTuple):
    """A dispatched step whose results have not been read."""

    step: int
    batch: int
    """its number in the data, from 0"""
    output: Output
    reports: Sequence[Report]
    layers: Layers | None


class Recorder:
    """Keeps one step in flight; `drain` reads it before anything that must find the ledger complete."""

    def __init__(
        self,
        writer: Writer,
        settings: config.Config,
        model: Program,
        start: int,
        totals: Totals,
        rewinds: list[list[int]],
    ) -> None:
        """`rewinds` are the batches that are left out: for each time the run went back the first and the last one."""
        self.totals = totals
        self._health = Health(writer, settings.train, totals, rewinds)
        self._next_batch, self._passed_over = start + totals.skipped_batches, 0
        self._evaluated: tuple[int, Mapping[str, float]] = (-1, {})
        self._writer = writer
        self._settings = settings
        self._step = start
        self._pending: _Pending | None = None
        self._unit = losses.unit(settings.data.objective)
        self._pace = Pace(settings, model, start)

    @property
    def num_steps(self) -> int:
        """The step training ends at, unless it ends early."""
        return self._settings.train.num_steps

    @property
    def over(self) -> str:
        """Why there is nothing left to train, '' while there is."""
        if self._step >= self.num_steps:
            return "that is train.num_steps; to train longer, raise and allow it, or take another --workdir"
        return health.ended_early(self._settings, self.totals)

    @property
    def step(self) -> int:
        """The newest step that was dispatched."""
        return self._step

    def wait_for(self, stream: Stream, give_up: Callable[[], bool]) -> Batch | None:
        """Return the next batch, None when `give_up` says so first, and remember how long it took to come.

        What the data pipeline raises is passed on when all that led to it is written down.
        """
        start = time.perf_counter()
        passed_over = 0
        try:
            batch = stream.wait(give_up)
            while batch is not None and self._health.is_left_out(self._next_batch + passed_over):
                passed_over += 1
                batch = stream.wait(give_up)
        except CodexError as error:
            self.drain()
            last = [error.report] if isinstance(error, Blocked) else []
            for report in [*stream.take_reports(), *last]:
                self._write_report(self._step + 1, report)
            raise
        self._passed_over = passed_over
        self._pace.waited(time.perf_counter() - start)
        return batch

    def note(self, step: int, output: Output, reports: Sequence[Report], layers: Layers | None = None) -> None:
        """Take over the step that was just dispatched, with what was seen of its layers; write down the one before."""
        self.drain()
        self._step = step
        self.totals.skipped_batches += self._passed_over  # now: a batch that was only waited for is waited for again
        self._next_batch += self._passed_over + 1
        self._pending = _Pending(step, self._next_batch - 1, output, reports, layers)

    def drain(self) -> None:
        """Write down the step in flight, if any. Raises what `Health` raises when something is wrong with it."""
        if self._pending is None:
            return
        step, batch, output, reports, layers = self._pending
        self._pending = None
        for report in reports:
            self._write_report(step, report)
        start = time.perf_counter()
        values = jax.device_get(output)
        self._pace.blocked(time.perf_counter() - start)
        if values.finite:
            self.totals.tokens += int(values.weight)
        row = {
            "loss": float(values.loss),
            self._unit.accuracy: float(values.accuracy),
            "grad_norm": float(values.grad_norm),
            "param_norm": float(values.param_norm),
            "learning_rate": float(values.learning_rate),
            self._unit.plural: self.totals.tokens,
        }
        due = step % self._settings.train.log_every == 0 or step == self._settings.train.num_steps
        if due or not values.finite:
            self._writer.scalars(step, "train", row)
        if layers is not None:  # before the step is judged: they tell where it went wrong
            self._write_layers(step, jax.device_get(layers))
        if values.finite:
            self._health.judge(step, batch, row["loss"])
        else:
            self._health.left_out(step, row["loss"], row["grad_norm"])
        if due:
            self._write_speed(step, row["loss"])

    def evaluated(self, step: int, metrics: Mapping[str, float], sample: Verdict) -> None:
        """Write down an evaluation and what may be seen of a sample, and count it for `over`."""
        shown = sample.shown
        options = self._settings.checkpoint
        self._evaluated = (step, metrics)
        self._health.is_better(metrics[options.best_metric], options.best_mode)
        self._writer.scalars(step, "validation", metrics)
        self._writer.scalars(step, "data", self.totals.documents)
        if self.totals.safety:
            self._writer.scalars(step, "safety", self.totals.safety)
        accounts.write_verdict(self._writer, step, "output", sample)
        self._writer.text(step, "sample", shown)
        perplexity = f"perplexity {progress.perplexity(metrics['perplexity'])}  " if "perplexity" in metrics else ""
        accuracy = f"accuracy {100 * metrics[self._unit.accuracy]:.1f}%"
        say(f"step {step:>5}  validation loss {metrics['loss']:.3f}  {perplexity}{accuracy}")
        say("\n".join("    | " + line[:74] for line in shown.splitlines()[:8]))

    def evaluation(self, step: int) -> dict[str, float | None] | None:
        """Return the metrics of exactly this step as JSON can hold them, None for those of another or of none."""
        evaluated, metrics = self._evaluated
        if evaluated != step:
            return None
        return {name: value if math.isfinite(value) else None for name, value in metrics.items()}

    def saved(self, step: int, digest: str, num_bytes: int) -> None:
        """Acknowledge a checkpoint that is on the disk as a whole."""
        self._writer.event(ledger.SAVED, step, {"digest": digest, "bytes": num_bytes})

    def not_saved(self, reason: str) -> None:
        """Write down that a checkpoint was not saved, and why."""
        self._writer.event(ledger.NOT_SAVED, self._step, {"reason": reason})
        self._writer.scalars(self._step, "checkpoint", {"failed": 1})

    def spent(self, joules: float | None) -> dict[str, float]:
        """Return the energy of the run, and of a million tokens or texts it learnt; nothing when it is not known."""
        if joules is None:
            return {}
        fields = {"energy_joules": joules}
        # One process sees its own machine, and counts the tokens of all.
        if self.totals.tokens and jax.process_count() == 1:
            fields[f"joules_per_million_{self._unit.plural}"] = joules * 1e6 / self.totals.tokens
        return fields

    def resume_clock(self, seconds: float) -> None:
        """Leave out time that was not spent on training from its speed."""
        self._pace.leave_out(seconds)

    def _write_speed(self, step: int, loss: float) -> None:
        speed, left = self._pace.read(step), self._pace.secs_left(step)
        self._writer.scalars(step, "speed", speed)
        rate, mfu = speed["tokens_per_sec"], speed.get("mfu")
        say(progress.line(step, self.num_steps, loss=loss, tokens_per_sec=rate, mfu=mfu, secs_left=left))

    def _write_layers(self, step: int, layers: Layers) -> None:
        self._writer.scalars(step, "layers", norms(layers))
        for name, edges, counts in histograms(layers):
            self._writer.histogram(step, name, edges, counts)

    def _write_report(self, step: int, report: Report) -> None:
        for name in self.totals.documents:
            self.totals.documents[name] += getattr(report, name)
        for name, count in report.safety.items():
            self.totals.safety[name] = self.totals.safety.get(name, 0) + count
        accounts.write_exceptions(self._writer, step, "train", report)
        self._writer.event("data.report", step, {**self.totals.documents, "safety": dict(self.totals.safety)})
