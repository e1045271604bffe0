"""Reads what a step reports while the next one runs, and writes it down: ledger rows, data events, what the user sees."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from codex_jax import config, digest, trees
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.data.batch import Batch
from codex_jax.data.pipeline import TrainStream
from codex_jax.data.report import Report
from codex_jax.errors import TrainingStopped
from codex_jax.models import build
from codex_jax.safety import engine
from codex_jax.tracking import progress
from codex_jax.tracking.writer import Writer
from codex_jax.training import flops
from codex_jax.training.step import Output


class _Pending(NamedTuple):
    """A dispatched step whose results have not been read."""

    step: int
    output: Output
    reports: Sequence[Report]


class Recorder:
    """Keeps one step in flight; `drain` reads it before anything that must find the ledger complete."""

    def __init__(
        self, writer: Writer, settings: config.Config, definition: build.Definition, start: int, tokens: int
    ) -> None:
        self.tokens = tokens
        """weighted tokens learnt from, up to the last step that was read"""
        self._writer = writer
        self._settings = settings
        self._start = self._since_step = start
        self._pending: _Pending | None = None
        self._num_parameters = trees.num_parameters(definition.abstract)
        self._flops = flops.per_token(settings.model, self._num_parameters, settings.data.sequence_length)
        self._peak = flops.peak(build.compute_dtype(settings.model.compute_dtype))
        self._began = self._since = time.perf_counter()
        self._waited = 0.0

    def wait_for(self, stream: TrainStream) -> Batch:
        """Return the next batch, and remember how long it took to come."""
        start = time.perf_counter()
        batch = next(stream)
        self._waited += time.perf_counter() - start
        return batch

    def note(self, step: int, output: Output, reports: Sequence[Report]) -> None:
        """Take over the step that was just dispatched and write down the one before it."""
        self.drain()
        self._pending = _Pending(step, output, reports)

    def drain(self) -> None:
        """Write down the step in flight, if any; TrainingStopped when its loss or gradient was not finite."""
        if self._pending is None:
            return
        step, output, reports = self._pending
        self._pending = None
        for report in reports:
            for name, fields in report.events():
                self._writer.event(name, step, fields)
        values = jax.device_get(output)
        if values.finite:
            self.tokens += int(values.weight)
        row = {
            "loss": float(values.loss),
            "grad_norm": float(values.grad_norm),
            "learning_rate": float(values.learning_rate),
            "tokens": self.tokens,
        }
        train = self._settings.train
        if not values.finite or step % train.log_every == 0 or step == train.num_steps:
            self._writer.scalars(step, "train", row)
        if not values.finite:
            self._writer.sync()
            raise TrainingStopped(
                f"step {step} was not applied: loss {row['loss']}, gradient norm {row['grad_norm']}. Checkpoints are from "
                f"before it; lower optimizer.learning_rate, or look at the data of this step"
            )
        if step % train.log_every == 0 or step == train.num_steps:
            self._speed(step, row["loss"])

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write down an evaluation; the time since `drain` does not count as training."""
        self._writer.scalars(step, "validation", metrics)
        _say(
            f"step {step:>5}  validation loss {metrics['loss']:.3f}  perplexity {metrics['perplexity']:.1f}  "
            f"accuracy {100 * metrics['token_accuracy']:.1f}%"
        )

    def sampled(self, step: int, text: str) -> None:
        """Write down a sample, redacted as any text that reaches a file."""
        shown = engine.Engine().redact(text).text if self._settings.safety.enabled else text
        self._writer.text(step, "sample", shown)
        _say("\n".join("    | " + line for line in shown.splitlines()[:12]))
        now = time.perf_counter()
        self._since_other = now

    def _speed(self, step: int, loss: float) -> None:
        now = time.perf_counter()
        num_steps = step - self._since_step
        seconds = max(now - self._since, 1e-9)
        rows, length = self._settings.train.global_batch_size, self._settings.data.sequence_length
        tokens_per_sec = num_steps * rows * length / seconds
        mfu = tokens_per_sec * self._flops / self._peak if self._peak else None
        speed = {
            "tokens_per_sec": tokens_per_sec,
            "step_secs": seconds / num_steps,
            "input_wait_secs": self._waited / num_steps,
        }
        self._writer.scalars(step, "speed", speed if mfu is None else {**speed, "mfu": mfu})
        total = self._settings.train.num_steps
        left = (total - step) * (now - self._began) / (step - self._start)
        _say(progress.line(step, total, loss=loss, tokens_per_sec=tokens_per_sec, mfu=mfu, secs_left=left))
        self._since, self._since_step, self._waited = now, step, 0.0


def _say(text: str) -> None:
    print(text, flush=True)
