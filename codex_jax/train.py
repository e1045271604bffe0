"""Training as a recipe: each step of it is a call whose name says what it does.

Step n is the number of updates done. The checkpoint named n holds a state with `step == n` and a data position whose
next batch is number n; every row of the ledger up to n is on disk before that checkpoint counts.
"""

import contextlib
import dataclasses
import os
import time
from pathlib import Path

import jax
import numpy as np

from codex_jax import cache, config, digest, evaluate, rundir, sharding, trees
from codex_jax.checkpoint import store
from codex_jax.data import pipeline
from codex_jax.encoders import classifying, filling
from codex_jax.errors import ConfigError
from codex_jax.generation import samples
from codex_jax.hosts import alike, join
from codex_jax.hosts.stopping import Stopping
from codex_jax.journal import dossier
from codex_jax.journal.recorder import Recorder, Totals
from codex_jax.safety import gate
from codex_jax.signals import StopRequest
from codex_jax.tokenizers import loading
from codex_jax.tracking import ledger
from codex_jax.tracking.writer import Nowhere, Writer, open_writer
from codex_jax.training import beginning, masking, program
from codex_jax.training.state import TrainState


def train(settings: config.Config, origin: dict[str, str], workdir: Path, stop: StopRequest) -> TrainState:
    """Train to the end, from the newest valid checkpoint of `workdir` or from the beginning; return the final state.

    Raises CodexError: its message is for the user, and everything up to the last checkpoint is kept.
    """
    use_compile_cache()
    num_steps, num_rows = settings.train.num_steps, settings.train.global_batch_size
    with contextlib.ExitStack() as stack:
        # The processes of the run, most often one: the first decides, writes and talks.
        team = stack.enter_context(join.join(settings.parallel, lambda: stop.raise_if_asked("before all had come")))
        mesh = sharding.make_mesh(settings.parallel)
        sharding.check_batch(settings.train, mesh)
        settings = loading.of_weights(beginning.decided(workdir, settings))
        alike.check_start(team, settings)

        if team.is_first:
            stack.enter_context(rundir.claim(workdir))
        owner = team.decide(os.getpid)
        if not team.is_first:
            rundir.check_shared(workdir, owner)
        found = store.find_newest_of(team, workdir / "checkpoints")
        start = found.step if found else 0
        if team.is_first and found:
            ledger.refuse_lost_events(workdir, start, found.meta)
        elif team.is_first:
            ledger.refuse_to_lose_a_run(workdir)
        guard = gate.of(settings.safety)
        shown = guard.outward(config.to_dict(settings))  # nothing else of the settings goes into a file
        run_id = team.decide(lambda: rundir.identify(workdir, shown, found.meta if found else None))

        given = loading.given(settings.tokenizer)  # before the data: what is wrong with it is known at once
        mixture = pipeline.open_mixture(settings.data, guard)
        tokenizer = given or pipeline.train_tokenizer(settings, mixture)
        dossier.name_tokenizer(settings.tokenizer, tokenizer)
        check_vocabulary(settings.model.vocab_size, tokenizer.vocab_size)

        def between() -> None:
            team.raise_if_failed()
            stop.raise_if_asked("in the middle of building the store")

        made = team.after_the_first(lambda: pipeline.make_stores(settings, mixture, tokenizer, between), between)
        part = sharding.part_of_batch(mesh)
        stream = stack.enter_context(
            contextlib.closing(pipeline.train_stream(settings, mixture, tokenizer, num_rows, part, made))
        )
        alike.check_data(team, stream.fingerprint, tokenizer.digest)
        validation, held_out = pipeline.validation_batches(settings, mixture, tokenizer, num_rows, made)

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
        begun, frozen = beginning.load(settings, model, resumed=found is not None)

        # Go on from this workdir, or begin; a checkpoint that cannot be trusted was refused above.
        if found:
            state = store.restore(found, model.target)
            stream.restore(found.data_state)
            before = Totals(**found.meta["totals"])
        else:
            state = model.initial(begun)
            before = Totals()

        writer: Writer = Nowhere()
        if team.is_first:
            rundir.begin(workdir, run_id, shown, origin)
            writer = stack.enter_context(
                open_writer(
                    workdir,
                    run_id=run_id,
                    resume_step=start,
                    tracking=settings.tracking,
                    settings=shown,
                    tags=guard.bypass.tags if guard.bypass else {},
                    outward=guard.outward,
                )
            )
            content = {"data": digest.of_json(stream.fingerprint), "weights": weights}
            made_with = dossier.open_run(workdir, settings, guard, model, tokenizer, mixture, content)
        recorder = Recorder(writer, settings, model, start, before)
        if team.is_first:
            stack.enter_context(dossier.ending(writer, workdir, recorder))
        saver = stack.enter_context(
            store.Checkpointer(
                workdir / "checkpoints",
                settings.checkpoint.keep_last,
                lambda step, manifest: recorder.saved(step, manifest.root, manifest.num_bytes),
                verified=found,
            )
        )
        dossier.name_leftovers(saver.removed)
        if team.is_first and found:
            dossier.resume_run(writer, made_with, found.meta, start, num_steps, found.skipped)
        elif team.is_first:
            dossier.begin_run(writer, made_with, evaluate.unigram_entropy(validation), held_out, prompt)

        stopping = Stopping(team, mesh, stop)
        stack.enter_context(team.guard())
        for index in range(start, num_steps):
            batch = recorder.wait_for(stream)
            state, output = model.update(state, frozen, sharding.place(batch, mesh), np.int32(index))
            done, asked_to_stop = index + 1, stopping.is_asked()  # once: a signal may come between any two lines
            recorder.note(done, output, stream.take_reports())
            saver.raise_if_failed()
            if done == num_steps or done % settings.eval.every_steps == 0:
                recorder.drain()
                paused = time.perf_counter()
                parameters = trees.joined(state.parameters, frozen)
                text = guard.examine(sample(parameters, jax.random.fold_in(state.key, done)), "output")
                recorder.evaluated(done, evaluate_model(parameters), text)
                recorder.resume_clock(time.perf_counter() - paused)
            if done == num_steps or done % settings.checkpoint.every_steps == 0 or asked_to_stop:
                recorder.drain()
                meta = {
                    "run_id": run_id,
                    "settings": shown,
                    "totals": dataclasses.asdict(recorder.totals),
                    "weights": weights,
                    "machines": dossier.machines(),
                    "events": writer.sync()._asdict(),  # the last of them: that it was lost shows
                }
                saver.save(done, state, stream.state(), meta)
            if asked_to_stop:
                saver.close()
                stop.raise_if_asked(f"after step {done}, which is saved")
    return state


def use_compile_cache() -> None:
    """Keep compiled programs on disk, however small, so that the second start does not compile."""
    jax.config.update("jax_compilation_cache_dir", str(cache.directory("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def check_vocabulary(rows: int, tokens: int) -> None:
    """Raise ConfigError when the tokenizer has tokens the model has no embedding for."""
    if tokens > rows:
        raise ConfigError(
            f"the tokenizer has {tokens} tokens, but model.vocab_size={rows}; set model.vocab_size={tokens} or more, "
            f"or name a smaller tokenizer"
        )
