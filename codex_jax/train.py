"""Training as a recipe: each step of it is a call whose name says what it does.

Step n is the number of updates done. The checkpoint named n holds a state with `step == n` and a data position whose
next batch is number n; every row of the ledger up to n is on disk before that checkpoint counts.
"""

import contextlib
import dataclasses
import functools
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from codex_jax import changes, config, digest, evaluate, rundir, schema, sharding, trees, watchdog
from codex_jax.checkpoint import retention, room, saving, store
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.occasions import Occasions
from codex_jax.data import pipeline, position
from codex_jax.encoders import classifying, filling
from codex_jax.errors import AssetError, ConfigError, Interrupted, TrainingStopped
from codex_jax.generation import samples
from codex_jax.hosts import alike, join
from codex_jax.hosts.stopping import Stopping
from codex_jax.hosts.team import Team
from codex_jax.journal import dossier
from codex_jax.journal.health import GoBack, rewinds
from codex_jax.journal.recorder import Recorder
from codex_jax.journal.totals import Totals
from codex_jax.safety import gate
from codex_jax.signals import StopRequest
from codex_jax.tokenizers import loading
from codex_jax.tracking import ledger
from codex_jax.tracking.writer import Nowhere, Writer, open_writer
from codex_jax.training import beginning, masking, program
from codex_jax.training.state import TrainState


ANEW = "set them back, choose another --workdir"


def train(settings: config.Config, origin: dict[str, str], workdir: Path, stop: StopRequest) -> TrainState:
    """Train to the end, from the newest valid checkpoint of `workdir` or from the beginning; return the final state.

    Raises CodexError: its message is for the user, and everything up to the last checkpoint is kept.
    """
    program.use_compile_cache()
    with contextlib.ExitStack() as stack:
        # The processes of the run, most often one: the first decides, writes and talks.
        team = stack.enter_context(join.join(settings.parallel, lambda: stop.raise_if_asked("before all had come")))
        watch = watchdog.Watchdog()
        mesh = sharding.make_mesh(settings.parallel)
        sharding.check_batch(settings.train, mesh)
        settings = loading.of_weights(beginning.decided(workdir, settings))
        alike.check_start(team, settings)

        if team.is_first:
            stack.enter_context(rundir.claim(workdir))
        owner = team.decide(os.getpid)
        if not team.is_first:
            rundir.check_shared(workdir, owner)
        while True:
            with contextlib.suppress(GoBack):
                return recipe(settings, origin, workdir, stop, watch, team, mesh)


def recipe(
    settings: config.Config,
    origin: dict[str, str],
    workdir: Path,
    stop: StopRequest,
    watch: watchdog.Watchdog,
    team: Team,
    mesh: Mesh,
) -> TrainState:
    """Train from the newest valid checkpoint, or from the beginning; GoBack when that is to be done once more."""
    num_steps, num_rows = settings.train.num_steps, settings.train.global_batch_size
    watched = functools.partial(limited, watch, settings.train)

    # Before there is something to save a signal is answered between the steps of this recipe.
    def between() -> None:
        team.raise_if_failed()
        stop.raise_if_asked("before the first step, when there was nothing to save")

    with contextlib.ExitStack() as stack:
        found = store.find_newest_of(team, workdir / "checkpoints")
        start = found.step if found else 0
        owes = bool(found and found.meta.get("owes_evaluation"))
        if team.is_first and found:
            ledger.refuse_lost_events(workdir, start, found.meta)
        elif team.is_first:
            ledger.refuse_to_lose_a_run(workdir)
        guard = gate.of(settings.safety)
        shown = guard.outward(config.to_dict(settings))  # nothing else of the settings goes into a file
        run_id = team.decide(lambda: rundir.identify(workdir, found.meta if found else None))
        allowed = settings.checkpoint.allow_change
        changed = changes.of_settings(found.meta["settings"], shown) if found else {}
        changes.refuse(changed, allowed, ConfigError, f"{workdir} holds a run with other settings:", ANEW)

        given = loading.given(settings.tokenizer)  # before the data: what is wrong with it is known at once
        between()
        mixture = pipeline.open_mixture(settings.data, guard)
        tokenizer = given or pipeline.train_tokenizer(settings, mixture)
        dossier.name_tokenizer(settings.tokenizer, tokenizer)
        beginning.check_vocabulary(settings.model.vocab_size, tokenizer.vocab_size)

        between()
        made = team.after_the_first(lambda: pipeline.make_stores(settings, mixture, tokenizer, between), between)
        part = sharding.part_of_batch(mesh)
        stream = stack.enter_context(
            contextlib.closing(pipeline.train_stream(settings, mixture, tokenizer, num_rows, part, made))
        )
        alike.check_data(team, stream.fingerprint, tokenizer.digest)
        moved = position.differences(found.data_state, stream.fingerprint) if found else {}
        changes.refuse(moved, allowed, AssetError, position.OTHER_DATA, position.WAY_OUT)
        changes.refuse_unknown(allowed, [*dict(schema.flatten(shown)), *stream.fingerprint, *moved])
        between()
        validation, held_out = pipeline.validation_batches(settings, mixture, tokenizer, num_rows, made)

        between()
        prepare = masking.make(settings, tokenizer)  # of a batch what is learnt from it
        model = program.make(settings, mesh, prepare)
        evaluate_model = evaluate.make(settings, model.definition, mesh, validation, prepare)
        prompt = guard.examine(settings.generate.prompt, "prompt")
        make_sample = {"causal": samples.make, "masked": filling.make, "classes": classifying.make}
        sample = make_sample[settings.data.objective](
            settings, model.definition, mesh, tokenizer, prompt, validation[0].opening()
        )

        weights = beginning.digest(settings.model, model, found.meta if found else None)
        alike.check_weights(team, weights)
        between()
        begun, frozen = beginning.load(settings, model, resumed=found is not None)

        if team.is_first and start < num_steps:
            room.check(
                workdir / "checkpoints", model.target, settings.checkpoint.keep_last + settings.checkpoint.keep_best
            )

        between()
        # Go on from this workdir, or begin; a checkpoint that cannot be trusted was refused above.
        if found:
            state = store.restore(found, model.target)
            if not moved:  # else the data begin anew: a position in other data says nothing
                stream.restore(found.data_state)
            before = Totals(**found.meta["totals"])
        else:
            state = model.initial(begun)
            before = Totals()

        digests = {
            "config": digest.of_json(config.to_dict(settings)),
            "data": digest.of_json(stream.fingerprint),
            "tokenizer": tokenizer.digest,
            "safety": guard.content(),
            **({"weights": weights} if weights else {}),
        }
        writer: Writer = Nowhere()
        if team.is_first:
            rundir.begin(workdir, run_id, shown, origin)
            writer = stack.enter_context(
                open_writer(
                    workdir,
                    run_id=run_id,
                    resume_step=start,
                    owes_evaluation=owes,
                    tracking=settings.tracking,
                    settings=shown,
                    tags=guard.bypass.tags if guard.bypass else {},
                    outward=guard.outward,
                )
            )
            made_with = dossier.open_run(workdir, settings, guard, model, tokenizer, mixture, digests)
        recorder = Recorder(writer, settings, model, start, before, team.decide(lambda: rewinds(workdir)))
        if team.is_first:
            stack.enter_context(dossier.ending(writer, workdir, recorder))
        occasions = Occasions(workdir, workdir / "checkpoints", settings.checkpoint, team.decide)

        def on_saved(step: int, manifest: Manifest) -> None:
            recorder.saved(step, manifest.root, manifest.num_bytes)
            occasions.acknowledge(step)

        saver = stack.enter_context(
            saving.Checkpointer(
                workdir / "checkpoints",
                retention.rules(settings.checkpoint),
                on_saved,
                verified=found,
                on_failed=recorder.not_saved,
                policy=saving.policy(settings.checkpoint),
                watchdog=watch,
                before_named=writer.sync,
            )
        )
        dossier.name_leftovers(saver.removed)
        if team.is_first and found:
            dossier.resume_run(writer, made_with, found.meta, start, found.skipped, recorder, {**moved, **changed})
        elif team.is_first:
            dossier.begin_run(writer, made_with, evaluate.unigram_entropy(validation), held_out, prompt)

        stopping = Stopping(team, stop)
        stack.enter_context(team.guard())
        team.tell = functools.partial(dossier.end_hanging, writer, recorder)

        def tell(reason: str) -> None:
            team.announce(TrainingStopped(reason))
            team.tell(reason)

        def is_assessed(step: int, *, compiles: bool) -> bool:
            """Evaluate a step and write a sample; False when a signal came first: the run that goes on does it."""
            recorder.drain()
            paused, parameters = time.perf_counter(), trees.joined(state.parameters, frozen)
            with watched(f"the evaluation of step {step}", compiles=compiles) as limit:

                def part() -> None:
                    limit.renew()
                    if stopping.is_agreed():
                        raise stop.interrupted(f"in the evaluation of step {step}")

                try:
                    text = sample(parameters, jax.random.fold_in(state.key, step), part)
                    metrics = evaluate_model(parameters, part)
                except Interrupted:
                    if not stop.signal:  # another process ended, which is no agreement
                        raise
                    return False
                recorder.evaluated(step, metrics, guard.examine(text, "output"))
            recorder.resume_clock(time.perf_counter() - paused)
            return True

        def save(step: int, why: str, *, owes: bool) -> None:
            with watched(f"step {step}", compiles=False):
                recorder.drain()
            meta = {
                "run_id": run_id,
                "why": why,
                "settings": shown,
                "digests": digests,
                "evaluation": recorder.evaluation(step),
                "totals": dataclasses.asdict(recorder.totals),
                "weights": weights,
                "machines": dossier.machines(),
                "events": writer.head()._asdict(),  # the last of them: that it was lost shows
                "owes_evaluation": owes,
            }
            saver.save(step, state, reached, meta)

        watch.tell, stop.may_end_at_once = tell, False
        stack.callback(watch.forget)  # before the writer is closed
        saved, reached, has_assessed = start, stream.state(), owes
        if owes and not is_assessed(start, compiles=True):
            raise stop.interrupted(f"after step {start}, which is saved, and evaluated when the run goes on")
        owes = False
        for index in range(start, start if recorder.over else num_steps):
            batch = recorder.wait_for(stream, stopping.is_wanted)
            if stopping.is_agreed() or batch is None:
                if index != saved:
                    save(index, "signal", owes=False)
                saver.close()
                raise stop.interrupted(f"after step {index}, which is saved" if index else "before the first step")
            done, request = index + 1, team.decide(occasions.request)
            with watched(f"step {done}", compiles=index == start):
                state, output = model.update(state, frozen, sharding.place(batch, mesh), np.int32(index))
                reached = stream.state()
                recorder.note(done, output, stream.take_reports())
            saver.raise_if_failed()
            if done == num_steps or done % settings.eval.every_steps == 0:
                owes = not is_assessed(done, compiles=not has_assessed)
                has_assessed = True
            if why := occasions.why(done, recorder.evaluation(done), request, ends=bool(recorder.over), stops=owes):
                save(done, why, owes=owes)
                saved = done
            if owes:
                saver.close()
                raise stop.interrupted(f"after step {done}, which is saved, and evaluated when the run goes on")
            if recorder.over:
                break
    return state


def limited(
    watch: watchdog.Watchdog, train: config.Train, what: str, *, compiles: bool
) -> AbstractContextManager[watchdog.Watched]:
    """Return `watch` over a step or an evaluation: train.max_step_secs of it, ten times as long with a compilation."""
    if compiles:
        return watch.watch(what, train.max_step_secs * 10, "ten times train.max_step_secs")
    return watch.watch(what, train.max_step_secs, "train.max_step_secs")
