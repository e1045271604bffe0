"""The weights that training begins with, or goes on beside: which they are, and how they come to their devices."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from codex_jax import config, rundir, trees
from codex_jax.console import warn
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, lora, origin, peft_files, pretrained
from codex_jax.training.program import Program


def recall(workdir: Path, settings: config.Config) -> config.Config:
    """Return the settings of a run that is resumed with what it has kept of its weights: architecture and tokenizer.

    So their directory need not be there any more. Nothing is recalled before there are checkpoints, nor for other
    weights than the run has.
    """
    asked = origin.asked(settings.model)
    if not asked or not (workdir / "checkpoints").is_dir():
        return settings
    try:
        kept = rundir.read_settings(workdir)["model"]
        weights, architecture = str(kept["weights"]), str(kept["architecture"])
    except (AssetError, KeyError):
        return settings  # whether the checkpoint is of this run is decided later
    if asked not in (origin.OFFLINE, weights) or not weights:
        return settings
    architecture = settings.model.architecture or architecture
    model = dataclasses.replace(settings.model, weights=weights, architecture=architecture)
    named = settings.tokenizer
    own = not (named.path or named.name or named.kind) and (workdir / "tokenizer").is_dir()
    tokenizer = dataclasses.replace(named, path=str(workdir / "tokenizer")) if own else named
    return dataclasses.replace(settings, model=model, tokenizer=tokenizer)


def decided(workdir: Path, settings: config.Config) -> config.Config:
    """Return the settings with nothing of model and adapters left open; raises what `build` and `peft_files` do."""
    settings = build.decided(_recall_adapter(workdir, recall(workdir, settings)))
    adapter = settings.adapter
    # A run with checkpoints begins with no adapter any more: whether the settings are its own is asked later.
    if not adapter.weights or (adapter.rank and (workdir / "checkpoints").is_dir()):
        return settings
    return peft_files.decided(settings, build.define(settings.model))


def _recall_adapter(workdir: Path, settings: config.Config) -> config.Config:
    """Return the settings of a run that is resumed with what it has taken from `adapter.weights`."""
    adapter = settings.adapter
    if not adapter.weights or adapter.rank or not (workdir / "checkpoints").is_dir():
        return settings
    try:
        kept = rundir.read_settings(workdir)["adapter"]
        found = {name: kept[name] for name in ("rank", "alpha", "rslora", "targets")}
    except (AssetError, KeyError):
        return settings
    if kept.get("weights") != adapter.weights:
        return settings
    found["targets"] = tuple(found["targets"])
    return dataclasses.replace(settings, adapter=dataclasses.replace(adapter, **found))


def digest(model: config.Model, program: Program, saved: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of the weights that the run began with, '' for random ones.

    `saved` is the meta of the checkpoint it goes on from: then the directory is not looked at, unless some parameters
    are frozen, and so in no checkpoint. AssetError when it has other weights by now.
    """
    if not model.weights:
        return ""
    if saved is None:
        return pretrained.digest(Path(model.weights))
    recorded = str(saved.get("weights", ""))
    if program.frozen and (found := pretrained.digest(Path(model.weights))) != recorded:
        raise AssetError(
            f"the weights in {model.weights} are not those this run began with: sha256 {found[:12]}, in the checkpoint "
            f"{recorded[:12]}; put them back, since what is frozen is in no checkpoint"
        )
    return recorded


def load(settings: config.Config, program: Program, *, resumed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that training begins with, and those that stay frozen; {} for what is made or restored.

    When a run is resumed the former are in its checkpoint.
    """
    model = settings.model
    if not model.weights or (resumed and not program.frozen):
        return {}, {}
    wanted = program.frozen if resumed else trees.joined(program.target.parameters, program.frozen)
    stored = build.as_stored(model, program.definition)
    published = pretrained.leaves(stored)
    _name_fresh(pretrained.leaves(program.definition) - published, program.frozen, stored.shape.ending)
    is_published = jax.tree_util.tree_map_with_path(lambda path, _: trees.name(path) in published, wanted)
    places = jax.tree.map(lambda leaf: leaf.sharding, trees.split(wanted, is_published)[0])
    begun, frozen = trees.split(pretrained.load(Path(model.weights), stored, places), program.trained)
    if settings.adapter.weights and not resumed:
        adapters = jax.tree.map(lambda leaf: leaf.sharding, lora.split(program.target.parameters)[1])
        directory = Path(settings.adapter.weights).expanduser()
        begun = trees.joined(begun, peft_files.load(directory, program.definition, adapters))
    return begun, frozen


def _name_fresh(fresh: set[str], frozen: dict[str, Any], ending: str) -> None:
    """Say what begins at random values; ConfigError when a part of it would stay there."""
    if stuck := sorted(fresh & {name for name, _ in trees.named_leaves(frozen)}):
        raise ConfigError(
            f"the weights end in {ending} and have no {', '.join(stuck)}, which would stay at random values: name them "
            "in train.trainable, with lora_ where there are adapters"
        )
    if fresh:
        warn(f"the weights end in {ending}; at random values begin {', '.join(sorted(fresh))}")


def check_vocabulary(rows: int, tokens: int) -> None:
    """Raise ConfigError when the tokenizer has tokens the model has no embedding for."""
    if tokens > rows:
        raise ConfigError(
            f"the tokenizer has {tokens} tokens, but model.vocab_size={rows}; set model.vocab_size={tokens} or more, "
            f"or name a smaller tokenizer"
        )
