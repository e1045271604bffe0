"""The weights that training begins with, or goes on beside: which they are, and how they come to their devices."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from codex_jax import config, rundir, trees
from codex_jax.errors import AssetError
from codex_jax.models import origin, pretrained
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


def digest(model: config.Model, program: Program, saved: Mapping[str, Any] | None) -> str:
    """Return the SHA-256 of the weights that the run began with, '' for random ones.

    `saved` is the meta of the checkpoint it goes on from: by then the directory may be gone, unless some parameters are
    frozen, and so in no checkpoint. AssetError when it has other weights by now.
    """
    if not model.weights:
        return ""
    if saved is None:
        return pretrained.digest(Path(model.weights))
    recorded = str(saved.get("weights", ""))
    if not program.frozen and not Path(model.weights).exists():
        return recorded
    if (found := pretrained.digest(Path(model.weights))) != recorded:
        raise AssetError(
            f"the weights in {model.weights} are not those this run began with: sha256 {found[:12]}, in the checkpoint "
            f"{recorded[:12] or 'none'}; put the files back, or name their place in model.weights"
        )
    return recorded


def load(model: config.Model, program: Program, *, resumed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that training begins with, and those that stay frozen; {} for what is made or restored.

    When a run is resumed the former are in its checkpoint.
    """
    if not model.weights or (resumed and not program.frozen):
        return {}, {}
    wanted = program.frozen if resumed else trees.joined(program.target.parameters, program.frozen)
    published = {row.leaf for row in program.definition.family.weights(program.definition.shape)}
    is_published = jax.tree_util.tree_map_with_path(lambda path, _: trees.name(path) in published, wanted)
    places = jax.tree.map(lambda leaf: leaf.sharding, trees.split(wanted, is_published)[0])
    return trees.split(pretrained.load(Path(model.weights), program.definition, places), program.trained)
