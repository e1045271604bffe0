"""Directories of weights as transformers writes them, made from the small models of `torch_models`."""

from pathlib import Path
from typing import Any

import jax
import torch_models

from codex_jax import config
from codex_jax.models import build


def write(made: Any, directory: Path, **options: Any) -> Path:
    """Write a model by save_pretrained."""
    made.save_pretrained(directory, **options)
    return directory


def settings(directory: Path) -> config.Model:
    """Return the settings of the model in a directory."""
    return config.Model(weights=str(directory), compute_dtype="float32", attention="xla")


def on_one_device(definition: build.Definition) -> Any:
    """Return a place for every leaf: the first device."""
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: place, definition.abstract)


def network(name: str) -> Any:
    """Return a small model in torch."""
    return torch_models.network(name)
