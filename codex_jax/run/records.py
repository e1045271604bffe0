"""What a run writes: ledger and its copies, checkpoints with what is noted in them, and why it ends."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

from codex_jax import config, digest, evaluate, rundir
from codex_jax.checkpoint import retention, saving
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.occasions import Occasions
from codex_jax.checkpoint.saving import Checkpointer
from codex_jax.errors import TrainingStopped
from codex_jax.journal import dossier
from codex_jax.journal.health import rewinds
from codex_jax.journal.profiler import Profiler
from codex_jax.journal.recorder import Recorder
from codex_jax.journal.totals import Totals
from codex_jax.run.engine import Engine
from codex_jax.run.materials import Materials
from codex_jax.run.standing import Run
from codex_jax.tracking.multi_writer import open_writer
from codex_jax.tracking.sampler import Sampler
from codex_jax.tracking.sink import Source
from codex_jax.tracking.writer import Nowhere, Writer


class Records(NamedTuple):
    """Open until the run ends."""

    writer: Writer
    recorder: Recorder
    saver: Checkpointer
    occasions: Occasions
    profiler: Profiler
    lasting: dict[str, Any]
    """what is noted in each checkpoint of this process"""

    def noted(self, step: int) -> dict[str, Any]:
        """Return what is noted in the checkpoint of the step that was recorded last."""
        return {
            **self.lasting,
            "evaluation": self.recorder.evaluation(step),
            "totals": dataclasses.asdict(self.recorder.totals),
            "machines": dossier.machines(),
            "events": self.writer.head()._asdict(),  # the last of them: that it was lost shows
        }


@contextlib.contextmanager
def open_records(run: Run, materials: Materials, engine: Engine, totals: Totals) -> Iterator[Records]:
    """Open the records, and write down that the run begins or goes on; at the end, how it ended."""
    workdir, team, watch = run.site.workdir, run.site.team, run.site.watch
    digests = _digests(run, materials, engine)
    every_secs = run.settings.tracking.system_every_secs if team.is_first else 0.0
    sampler = Sampler(workdir, run_id=run.run_id, every_secs=every_secs)
    with contextlib.ExitStack() as stack:
        writer: Writer = stack.enter_context(_writer(run)) if team.is_first else Nowhere()
        if team.is_first:
            made_with = dossier.open_run(
                workdir, run.settings, run.guard, engine.program, materials.tokenizer, materials.mixture, digests
            )
            made_with["system"] = dossier.name_sampler(sampler)
        left_out = team.decide(lambda: rewinds(workdir))
        recorder = Recorder(writer, run.settings, engine.program, run.step, totals, left_out)
        if team.is_first:
            stack.enter_context(dossier.ending(writer, workdir, recorder, sampler))
            stack.enter_context(sampler.during(writer, lambda: recorder.step))
        occasions = Occasions(workdir, run.site.root, run.settings.checkpoint, team.decide)
        saver = stack.enter_context(_saver(run, writer, recorder, occasions))
        dossier.name_leftovers(saver.removed)
        if team.is_first and run.found:
            changed = {**materials.moved, **run.changed}
            dossier.resume_run(writer, made_with, run.found.meta, run.step, run.found.skipped, recorder, changed)
        elif team.is_first:
            entropy = evaluate.unigram_entropy(materials.validation)
            dossier.begin_run(writer, made_with, entropy, materials.held_out, engine.prompt)
        if team.is_first:
            dossier.hand_over(writer, workdir, run.step)
        stack.enter_context(team.guard())
        team.tell = functools.partial(dossier.end_hanging, writer, recorder)

        def tell(reason: str) -> None:
            team.announce(TrainingStopped(reason))
            team.tell(reason)

        profiler = Profiler(writer, workdir, run.settings.tracking, is_on=team.is_first)
        stack.callback(profiler.leave)
        watch.tell, run.site.stop.may_end_at_once = tell, False
        stack.callback(watch.forget)  # before the writer is closed
        lasting = {"run_id": run.run_id, "settings": run.shown, "digests": digests, "weights": engine.weights}
        yield Records(writer, recorder, saver, occasions, profiler, lasting)


def _digests(run: Run, materials: Materials, engine: Engine) -> dict[str, str]:
    return {
        "config": digest.of_json(config.to_dict(run.settings)),
        "data": digest.of_json(materials.stream.fingerprint),
        "tokenizer": materials.tokenizer.digest,
        "safety": run.guard.content(),
        **({"weights": engine.weights} if engine.weights else {}),
    }


def _writer(run: Run) -> Writer:
    workdir, tags = run.site.workdir, run.guard.bypass.tags if run.guard.bypass else {}
    rundir.begin(workdir, run.run_id, run.shown, run.origin)
    source = Source(workdir, run.run_id, run.shown, tags, run.settings.tracking)
    return open_writer(
        source, run.sinks, resume_step=run.step, owes_evaluation=run.owes_evaluation, outward=run.guard.outward
    )


def _saver(run: Run, writer: Writer, recorder: Recorder, occasions: Occasions) -> Checkpointer:
    options = run.settings.checkpoint

    def on_saved(step: int, manifest: Manifest) -> None:
        recorder.saved(step, manifest.root, manifest.num_bytes)
        occasions.acknowledge(step)

    return Checkpointer(
        run.site.root,
        retention.rules(options),
        on_saved,
        verified=run.found,
        on_failed=recorder.not_saved,
        policy=saving.policy(options),
        watchdog=run.site.watch,
        before_named=writer.sync,
    )
