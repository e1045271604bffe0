"""Whether training is well: updates that were left out, losses that jump, and when that ends a run or sends it back.

All processes of a run judge the same numbers, and so decide alike.
"""

import math
import statistics
from pathlib import Path

from codex_jax import config
from codex_jax.console import warn
from codex_jax.errors import TrainingStopped
from codex_jax.journal.totals import Totals
from codex_jax.tracking import ledger
from codex_jax.tracking.writer import Writer


REWOUND = "run.rewound"


class GoBack(BaseException):
    """Training goes back to its newest checkpoint; the ledger says why, and which batches are left out then.

    No Exception: nothing has failed, so that nobody between here and the recipe need to deal with it.
    """


def rewinds(workdir: Path) -> list[list[int]]:
    """Return for each time a run went back the first and the last batch that it leaves out since then."""
    path = workdir / ledger.EVENTS
    return [row["batches"] for row in ledger.read(path) if row["event"] == REWOUND] if path.exists() else []


def ended_early(settings: config.Config, totals: Totals) -> str:
    """Say why training ends though steps are left, '' when it does not."""
    patience, since = settings.eval.patience, totals.evaluations_since_best
    if not patience or since < patience:
        return ""
    return (
        f"validation {settings.checkpoint.best_metric} got no better in {since} evaluations, which is "
        f"eval.patience={patience}"
    )


class Health:
    """Judges each step; `rewinds` are those of the run so far."""

    def __init__(self, writer: Writer, train: config.Train, totals: Totals, rewinds: list[list[int]]) -> None:
        self._writer, self._train, self._totals, self._rewinds = writer, train, totals, rewinds

    def is_left_out(self, batch: int) -> bool:
        """Return whether batch number `batch`, from 0, is one of those that a spike came from."""
        return any(first <= batch <= last for first, last in self._rewinds)

    def left_out(self, step: int, loss: float, grad_norm: float) -> None:
        """Count an update that was not finite, and so not applied; TrainingStopped when they are too many."""
        limit = self._train.max_nonfinite
        said = f"step {step} was not applied: its loss is {loss}, its gradient norm {grad_norm}"
        if self._totals.nonfinite == limit:
            count = f" {limit} were left out before it, which train.max_nonfinite allows." if limit else ""
            raise TrainingStopped(
                f"{said}.{count} What was saved is from before it. Look at the data of this step; train in another "
                f"--workdir with a lower optimizer.learning_rate; or set train.max_nonfinite={limit + 1} to leave such "
                "updates out"
            )
        self._totals.nonfinite += 1
        self._writer.event("step.skipped", step, {"loss": loss, "grad_norm": grad_norm})
        warn(f"{said}; {self._totals.nonfinite} of {limit} that train.max_nonfinite allows")

    def judge(self, step: int, batch: int, loss: float) -> None:
        """Take in the loss of a batch. A spike raises GoBack while train.max_rewinds allows, then TrainingStopped."""
        train, losses = self._train, self._totals.losses
        if not train.spike_factor:
            return
        if len(losses) >= train.spike_window:
            mean, deviation = statistics.fmean(losses), statistics.pstdev(losses)
            if loss > mean + train.spike_factor * deviation:
                self._spike(step, batch, {"loss": loss, "mean": mean, "deviation": deviation})
        losses.append(loss)
        del losses[: -train.spike_window]

    def is_better(self, value: float, mode: str) -> bool:
        """Take in a value of the metric that decides which checkpoint is best; return whether none was better."""
        best = self._totals.best
        sign = -1.0 if mode == "min" else 1.0
        if math.isfinite(value) and (best is None or sign * value > sign * best):
            self._totals.best, self._totals.evaluations_since_best = value, 0
            return True
        self._totals.evaluations_since_best += 1
        return False

    def _spike(self, step: int, batch: int, facts: dict[str, float]) -> None:
        said = "step {}: its loss of {loss:.4f} is a spike above {mean:.4f} +- {deviation:.4f}".format(step, **facts)
        self._writer.event("step.spike", step, facts)
        limit = self._train.max_rewinds
        if not limit:
            warn(said)
            return
        if len(self._rewinds) >= limit:
            raise TrainingStopped(
                f"{said}. The run went back as often as train.max_rewinds={limit} allows. Look at the data of this "
                "step; lower optimizer.learning_rate in another --workdir; or raise train.max_rewinds or "
                "train.spike_factor"
            )
        batches = [max(0, batch + 1 - self._train.spike_batches), batch]
        self._writer.event(REWOUND, step, {"batches": batches, **facts})
        self._writer.sync()
        warn(f"{said}; back to the last checkpoint, to leave out the batches {batches[0]} to {batches[1]}")
        raise GoBack
