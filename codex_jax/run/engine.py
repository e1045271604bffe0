"""The model of a run and what is done with it: updated, evaluated, sampled from; and the state it begins with."""

from collections.abc import Callable
from typing import Any, NamedTuple

from codex_jax import evaluate
from codex_jax.checkpoint import room, store
from codex_jax.encoders import classifying, filling
from codex_jax.generation import samples
from codex_jax.hosts import alike
from codex_jax.journal.totals import Totals
from codex_jax.run.materials import Materials
from codex_jax.run.standing import Run
from codex_jax.safety.gate import Verdict
from codex_jax.training import beginning, masking, program
from codex_jax.training.program import Program
from codex_jax.training.state import TrainState


SAMPLES = {"causal": samples.make, "masked": filling.make, "classes": classifying.make}


class Engine(NamedTuple):
    """Compiled when first used."""

    program: Program
    evaluate: evaluate.Evaluate
    sample: Callable[..., str]
    prompt: Verdict
    """what the safety policy says of the prompt of samples"""
    weights: str
    """SHA-256 of those the run began with, '' for random ones"""
    begun: dict[str, Any]
    """parameters that training begins with; {} when they are made, or restored"""
    frozen: dict[str, Any]
    """parameters that stay as they are"""


def make(run: Run, materials: Materials) -> Engine:
    """Return the engine, with the weights that the settings name read and compared with those of the checkpoint."""
    settings, site = run.settings, run.site
    site.between()
    prepare = masking.make(settings, materials.tokenizer)  # of a batch what is learnt from it
    made = program.make(settings, site.mesh, prepare)
    evaluation = evaluate.make(settings, made.definition, site.mesh, materials.validation, prepare)
    prompt = run.guard.examine(settings.generate.prompt, "prompt")
    opening = materials.validation[0].opening()
    sample = SAMPLES[settings.data.objective](
        settings, made.definition, site.mesh, materials.tokenizer, prompt, opening
    )
    weights = beginning.digest(settings.model, made, run.saved)
    alike.check_weights(site.team, weights)
    site.between()
    begun, frozen = beginning.load(settings, made, resumed=run.found is not None)
    return Engine(made, evaluation, sample, prompt, weights, begun, frozen)


def begin(run: Run, materials: Materials, engine: Engine) -> tuple[TrainState, Totals]:
    """Return the state of the checkpoint with its totals, the stream at its position; or a fresh state.

    The buffers of `engine.begun` are used up. TrainingStopped when the disk has no room for checkpoints.
    """
    options, site = run.settings.checkpoint, run.site
    if site.team.is_first and run.step < run.settings.train.num_steps:
        room.check(site.root, engine.program.target, options.keep_last + options.keep_best)
    site.between()
    if run.found is None:
        return engine.program.initial(engine.begun), Totals()
    state = store.restore(run.found, engine.program.target)
    if not materials.moved:  # else the data begin anew: a position in other data says nothing
        materials.stream.restore(run.found.data_state)
    return state, Totals(**run.found.meta["totals"])
