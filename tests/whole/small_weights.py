"""A directory of weights as a base model is published: config.json and model.safetensors, values by a seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from codex_jax import config, trees
from codex_jax.models import build, pretrained


GPT2 = {"model_type": "gpt2", "vocab_size": 320, "n_positions": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}


def write(directory: Path, *, seed: int = 0, changes: Mapping[str, Any] = {}) -> Path:
    """Write the weights of a small GPT-2, or of another config.json in its place."""
    published = {**GPT2, **changes}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(published))
    definition = build.define(config.Model(architecture=str(directory / "config.json")))
    draw = np.random.default_rng(seed)
    shapes = {name: leaf.shape for name, leaf in trees.named_leaves(definition.abstract)}
    tensors = {
        name: 0.05 * draw.standard_normal(pretrained.published_shape(leaf, shapes[leaf], row), np.float32)
        for leaf, row, names in pretrained.rows(definition)
        for name in names
    }
    save_file(tensors, directory / "model.safetensors")
    return directory
