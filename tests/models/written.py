"""Directories of weights as transformers writes them, made from the small models of `torch_models`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
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


def tensors_of(made: Any) -> dict[str, Any]:
    """Return the tensors of a model as arrays by their names in its file: a tied head is in it once."""
    head = "lm_head.weight" if made.config.tie_word_embeddings else ""
    return {name: tensor.numpy() for name, tensor in made.state_dict().items() if name != head}


def network(name: str) -> Any:
    """Return a small model in torch."""
    return torch_models.network(name)


def flax_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors by torch's names as the nested dict of transformers' Flax models: every kernel turned around."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        if last == "weight" and path[-1] in ("wte", "wpe", "embed_tokens"):
            last = "embedding"
        elif last == "weight" and tensor.ndim == 2:
            last, tensor = "kernel", tensor.T
        elif last == "weight" and path[-1].startswith("ln_"):
            last = "scale"
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = np.ascontiguousarray(tensor)
    return tree
