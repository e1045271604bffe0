"""The way of a run's state: step by step, evaluated and saved between its steps, left when a signal or the end comes.

Step n is the number of updates done. The checkpoint named n holds a state with `step == n` and a data position whose
next batch is number n; every row of the ledger up to n is on disk before that checkpoint counts.
"""

import functools
import time
from typing import NoReturn

import jax
import numpy as np

from codex_jax import sharding, trees
from codex_jax.data.batch import Batch
from codex_jax.errors import Interrupted
from codex_jax.hosts.stopping import Stopping
from codex_jax.run.engine import Engine
from codex_jax.run.materials import Materials
from codex_jax.run.records import Records
from codex_jax.run.site import limited
from codex_jax.run.standing import Run
from codex_jax.training.state import TrainState


class Course:
    """Holds the newest state. Every process of a run calls the same methods in the same order."""

    def __init__(self, run: Run, materials: Materials, engine: Engine, state: TrainState, kept: Records) -> None:
        self.state = state
        self._run, self._materials, self._engine, self._kept = run, materials, engine, kept
        self._stopping = Stopping(run.site.team, run.site.stop)
        self._watched = functools.partial(limited, run.site.watch, run.settings.train)
        self._step = self._saved = run.step
        self._reached = materials.stream.state()
        """the position in the data behind the newest step, while the stream may be further on"""
        self._request = 0
        self._owes_evaluation = run.owes_evaluation
        self._has_stepped = self._has_looked = self._has_evaluated = False  # what comes first compiles

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self._kept.recorder.over)

    def make_up(self) -> None:
        """Evaluate the step that a run before this one owes; Interrupted when a signal comes first again."""
        if self._owes_evaluation:
            self._evaluate()
            self._leave_if_owing()

    def next_batch(self) -> Batch:
        """Return the batch of the next step. Interrupted, the newest step saved, when a signal came to any process."""
        batch = self._kept.recorder.wait_for(self._materials.stream, self._stopping.is_wanted)
        agreed = self._stopping.is_agreed()  # where all processes meet, whatever each waited for
        if batch is not None and not agreed:
            return batch
        if self._step != self._saved:
            self._save("signal")
        self._leave(f"after step {self._step}, which is saved" if self._step else "before the first step")

    def advance(self, batch: Batch) -> None:
        """Update the state; meanwhile the step before is written down and judged. Raises what a failed save left."""
        index, kept = self._step, self._kept
        self._step += 1
        self._request = self._run.site.team.decide(kept.occasions.request)
        program, frozen, looks = self._engine.program, self._engine.frozen, self._looks()
        compiles = not self._has_stepped or (looks and not self._has_looked)
        with self._watched(f"step {self._step}", compiles=compiles), kept.profiler.step(self._step):
            placed = sharding.place(batch, self._run.site.mesh)
            layers = program.look(self.state, frozen, placed) if looks else None
            self.state, output = program.update(self.state, frozen, placed, np.int32(index))
            self._reached = self._materials.stream.state()
            kept.recorder.note(self._step, output, self._materials.stream.take_reports(), layers)
        self._has_stepped, self._has_looked = True, looks or self._has_looked
        if kept.profiler.ends_with(self._step):
            self._end_profile()
        kept.saver.raise_if_failed()

    def evaluate_if_due(self) -> None:
        """Evaluate every so many steps, and the last one, and write a sample."""
        settings = self._run.settings
        if self._step == settings.train.num_steps or self._step % settings.eval.every_steps == 0:
            self._evaluate()

    def save_if_due(self) -> None:
        """Save where there is an occasion; Interrupted, when that is done, if a signal came in the evaluation."""
        evaluation = self._kept.recorder.evaluation(self._step)
        why = self._kept.occasions.why(
            self._step, evaluation, self._request, ends=self.is_over, stops=self._owes_evaluation
        )
        if why:
            self._save(why)
        self._leave_if_owing()

    def _looks(self) -> bool:
        every = self._run.settings.train.layer_stats_every
        return every > 0 and self._step % every == 0

    def _end_profile(self) -> None:
        with self._watched(f"the profile of step {self._step}", compiles=True):  # JAX needs a while to write it
            self._kept.recorder.drain()  # what the devices do for the last step is in it
            paused = time.perf_counter()
            self._kept.profiler.close()
            self._kept.recorder.resume_clock(time.perf_counter() - paused)

    def _evaluate(self) -> None:
        """Evaluate the newest step and write a sample; when a signal comes first, the run that goes on does it."""
        self._end_step()
        recorder, engine, step = self._kept.recorder, self._engine, self._step
        paused, parameters = time.perf_counter(), trees.joined(self.state.parameters, engine.frozen)
        with self._watched(f"the evaluation of step {step}", compiles=not self._has_evaluated) as limit:
            self._has_evaluated = self._owes_evaluation = True

            def part() -> None:
                limit.renew()
                if self._stopping.is_agreed():
                    raise self._run.site.stop.interrupted(f"in the evaluation of step {step}")

            try:
                text = engine.sample(parameters, jax.random.fold_in(self.state.key, step), part)
                metrics = engine.evaluate(parameters, part)
            except Interrupted:
                if not self._run.site.stop.signal:  # another process ended, which is no agreement
                    raise
                return
            recorder.evaluated(step, metrics, self._run.guard.examine(text, "output"))
        self._owes_evaluation = False
        recorder.resume_clock(time.perf_counter() - paused)

    def _end_step(self) -> None:
        """Wait for the newest step and write it down."""
        with self._watched(f"step {self._step}", compiles=False):
            self._kept.recorder.drain()

    def _save(self, why: str) -> None:
        self._end_step()
        noted = self._kept.noted(self._step) | {"why": why, "owes_evaluation": self._owes_evaluation}
        self._kept.saver.save(self._step, self.state, self._reached, noted)
        self._saved = self._step

    def _leave_if_owing(self) -> None:
        if self._owes_evaluation:
            self._leave(f"after step {self._step}, which is saved, and evaluated when the run goes on")

    def _leave(self, when: str) -> NoReturn:
        self._kept.saver.close()
        raise self._run.site.stop.interrupted(when)
