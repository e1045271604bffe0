"""What a run takes from files before its first step: the weights that it begins with or adapts, each leaf in place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from codex_jax import config, trees
from codex_jax.errors import AssetError
from codex_jax.models import build, lora, origin, peft_files, pretrained
from codex_jax.training.program import Program


def decided(settings: config.Config) -> config.Config:
    """Return the settings with nothing of model and adapters left open; raises what `build` and `peft_files` do."""
    settings = build.decided(settings)
    return peft_files.decided(settings, build.define(settings.model)) if settings.adapter.weights else settings


def check(settings: config.Config, resumed: Mapping[str, Any] | None) -> str:
    """Return the digest of the weights a run begins with, "" for random ones.

    `resumed` is the meta of the checkpoint to go on from: AssetError when that was made with other weights, of which it
    holds only what was trained.
    """
    directory = origin.weights(settings.model)
    found = pretrained.digest(directory) if directory else ""
    if resumed is not None and found != (made_with := resumed.get("base", "")):
        raise AssetError(
            f"the checkpoint was made with the weights of sha256 {made_with or 'none'}, and those in {directory} have "
            f"{found or 'none'}: put the files back, or name their place in model.weights"
        )
    return found


def frozen(settings: config.Config, model: Program) -> dict[str, Any]:
    """Return the parameters that a step is given beside the state; AssetError when the weights do not fit the model."""
    return _load(settings, model, model.frozen)


def given(settings: config.Config, model: Program) -> dict[str, Any]:
    """Return what `model.initial` need not make: trained parameters that there are weights for."""
    base = _load(settings, model, model.target.parameters)
    if not settings.adapter.weights:
        return base
    _, adapters = lora.split(model.target.parameters)
    places = jax.tree.map(lambda leaf: leaf.sharding, adapters)
    directory = Path(settings.adapter.weights).expanduser()
    return trees.joined(base, peft_files.load(directory, model.definition, places))


def _load(settings: config.Config, model: Program, wanted: dict[str, Any]) -> dict[str, Any]:
    directory = origin.weights(settings.model)
    base, _ = lora.split(wanted)
    if directory is None or not base:
        return {}
    places = jax.tree.map(lambda leaf: leaf.sharding, base)
    return pretrained.load(directory, model.definition, places)
