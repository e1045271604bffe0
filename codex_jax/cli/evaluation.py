"""A model on a whole held-out split, after everything that it depends on was found to be what it says."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codex_jax import config, rundir, sharding
from codex_jax import evaluate as evaluating
from codex_jax.checkpoint.store import Found
from codex_jax.cli import opening
from codex_jax.data import pipeline
from codex_jax.data.mixture import Mixture
from codex_jax.data.whole import Whole
from codex_jax.models import build
from codex_jax.safety import bypass, gate
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.training import losses, masking, program


def evaluate(run: Path, split: str, step: int | None, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return run, step, split, documents, quarantined, tokens, loss, perplexity and token_accuracy; writes nothing.

    Of classes the last are texts, loss and accuracy. `run` may be a directory of weights, too, which has no step:
    `pairs` say then what data there are. Else they are settings to change. Raises AssetError when checkpoint, settings,
    tokenizer or data are not what the checkpoint says, ConfigError for a change that would make another run of it or
    when there is no such split.
    """
    if not opening.is_run(run):
        return _of_weights(opening.directory_of_weights(run, step), split, pairs)
    written = rundir.read_settings(run)
    found = opening.checkpoint(run, step)
    settings = opening.settings_of(run, written, found, pairs)
    mesh = sharding.make_mesh(settings.parallel)
    sharding.check_batch(settings.train, mesh)
    guard = gate.of(settings.safety)
    bypass.announce(guard.bypass)
    mixture = pipeline.open_mixture(settings.data, guard)
    tokenizer = loading.load(run / "tokenizer", settings.tokenizer.kind)
    opening.check_tokenizer(run, tokenizer, found)
    _check_data(settings, mixture, tokenizer, found)
    batches = pipeline.whole_split(settings, mixture, tokenizer, settings.train.global_batch_size, split)
    prepare = masking.make(settings, tokenizer)
    model = program.make(settings, mesh, prepare)
    parameters = opening.parameters(settings, model, found)
    metrics = evaluating.once(settings, model.definition, mesh, parameters, batches, prepare)
    return {"run": str(run), "step": found.step, "split": split, **_counted(settings, batches, metrics)}


def _of_weights(directory: Path, split: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the same of weights as they are, or in few bits, on the data that the settings name."""
    made = opening.published(directory, pairs)
    settings = build.decided(made.settings)
    sharding.check_batch(settings.train, made.mesh)
    guard = gate.of(settings.safety)
    bypass.announce(guard.bypass)
    mixture = pipeline.open_mixture(settings.data, guard)
    batches = pipeline.whole_split(settings, mixture, made.tokenizer, settings.train.global_batch_size, split)
    prepare = masking.make(settings, made.tokenizer)
    metrics = evaluating.once(settings, made.definition, made.mesh, made.parameters, batches, prepare)
    return {"run": str(directory), "step": None, "split": split, **_counted(settings, batches, metrics)}


def _counted(settings: config.Config, batches: Whole, metrics: dict[str, float]) -> dict[str, Any]:
    counts = {"documents": batches.report.trained, "quarantined": batches.report.quarantined}
    unit = losses.unit(settings.data.objective).plural
    return {**counts, **metrics, unit: int(metrics[unit])}


def _check_data(settings: config.Config, mixture: Mixture, tokenizer: Tokenizer, found: Found) -> None:
    """Raise AssetError unless files, rules and tokenizer are those of the checkpoint's position in the data."""
    size = settings.train.global_batch_size
    with contextlib.closing(pipeline.train_stream(settings, mixture, tokenizer, size)) as stream:
        stream.restore(found.data_state)
