"""A checkpoint of a run on a whole held-out split, after everything it depends on was found to be what it says."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codex_jax import config, overrides, rundir, schema, sharding, trees
from codex_jax import evaluate as evaluating
from codex_jax.checkpoint import store
from codex_jax.checkpoint.store import Found
from codex_jax.data import pipeline
from codex_jax.data.mixture import Mixture
from codex_jax.errors import AssetError, ConfigError
from codex_jax.tokenizers import loading
from codex_jax.tokenizers.tokenizer import Tokenizer
from codex_jax.training import beginning, program


def evaluate(run: Path, split: str, step: int | None, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return run, step, split, documents, quarantined, tokens, loss, perplexity and token_accuracy; writes nothing.

    `pairs` are settings to change. Raises AssetError when checkpoint, settings, tokenizer or data are not what the
    checkpoint says, ConfigError for a change that would make another run of it or when there is no such split.
    """
    written = rundir.read_settings(run)
    found = _checkpoint(run, step)
    settings = _settings(run, written, found, pairs)
    mesh = sharding.make_mesh(settings.parallel)
    sharding.check_batch(settings.train, mesh)
    mixture = pipeline.open_mixture(settings.data)
    tokenizer = loading.load(run / "tokenizer", settings.tokenizer.kind)
    _check_tokenizer(run, tokenizer, found)
    _check_data(settings, mixture, tokenizer, found)
    batches = pipeline.whole_split(settings, mixture, tokenizer, settings.train.global_batch_size, split)
    model = program.make(settings, mesh)
    beginning.digest(settings.model, model, found.meta)
    _, frozen = beginning.load(settings.model, model, resumed=True)
    parameters = trees.joined(store.restore(found, model.target).parameters, frozen)
    metrics = evaluating.once(settings, model.definition, mesh, parameters, batches)
    counts = {"documents": batches.report.trained, "quarantined": batches.report.quarantined}
    return {"run": str(run), "step": found.step, "split": split, **counts, **metrics, "tokens": int(metrics["tokens"])}


def _checkpoint(run: Path, step: int | None) -> Found:
    root = run / "checkpoints"
    if step is not None:
        return store.find(root, step)
    found = store.find_newest(root)
    if found is None:
        raise AssetError(f"{root} has no checkpoint yet")
    if found.skipped:  # training goes on from an older one; a figure must not be of another step than is believed
        newest, reason = found.skipped[0]
        raise AssetError(f"checkpoint {newest} is damaged: {reason}; the newest whole one is --step={found.step}")
    return found


def _settings(run: Path, written: dict[str, Any], found: Found, pairs: Sequence[tuple[str, str]]) -> config.Config:
    """Return the settings of the run with those changed that may, and the seed of the data that the checkpoint has."""
    saved = found.meta["settings"]
    if changed := rundir.changes(saved, written):
        raise AssetError("\n".join([f"{run / 'config.json'} is not of the run of checkpoint {found.step}:", *changed]))
    try:
        settings = config.resolve(overrides.change(dict(schema.flatten(written)), pairs))
    except ConfigError as error:
        if pairs:
            raise
        raise AssetError(f"{run / 'config.json'} is not what this version reads: {error}") from error
    if changed := rundir.changes(saved, config.to_dict(settings)):
        raise ConfigError("\n".join(["a run is evaluated with the settings it was made with:", *changed]))
    # The variable CODEX_DATA_SEED may be another one by now, and the order decides nothing here.
    seed = found.data_state.get("fingerprint", {}).get("data.seed", -1)
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, seed=seed))


def _check_tokenizer(run: Path, tokenizer: Tokenizer, found: Found) -> None:
    # First: a store in the cache is named after what it holds, and with another tokenizer there would just be none.
    named = found.data_state.get("fingerprint", {}).items()
    there = {value for name, value in named if name.split(".")[-1] == "tokenizer"}
    if there != {tokenizer.digest}:
        raise AssetError(
            f"{run / 'tokenizer'} is not the tokenizer of checkpoint {found.step}: sha256 {tokenizer.digest[:12]}, "
            f"there {', '.join(str(value)[:12] for value in there)}"
        )


def _check_data(settings: config.Config, mixture: Mixture, tokenizer: Tokenizer, found: Found) -> None:
    """Raise AssetError unless files, rules and tokenizer are those of the checkpoint's position in the data."""
    size = settings.train.global_batch_size
    with contextlib.closing(pipeline.train_stream(settings, mixture, tokenizer, size)) as stream:
        stream.restore(found.data_state)
