"""Which parameters are trained: leaves by their names, and of stacked leaves the layers."""

import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from codex_jax import config, trees
from codex_jax.errors import ConfigError
from codex_jax.models import lora


# Leaves with the layers on their first axis.
STACKED = r"^blocks/"


def trained(train: config.Train, parameters: trees.PyTree) -> trees.PyTree:
    """Return for every leaf (arrays or shapes) whether it is trained.

    ConfigError for a pattern that is found in no name, with the names there are, and when nothing is left to train.
    """
    names = [name for name, _ in trees.named_leaves(parameters)]
    adapters = [name for name in names if re.search(lora.LEAVES, name)]
    chosen = [name for name in names if is_found(train.trainable, name)] if train.trainable else adapters or names
    fixed = [name for name in chosen if re.search(r"/(codes|scales)$", name)]
    problems = unfound("train.trainable", train.trainable, names)
    if left := sorted(set(adapters) - set(chosen)):
        problems.append(f"train.trainable leaves out {left[0]}: add lora_ to train all adapters, or set adapter.rank=0")
    still = [
        name
        for name, leaf in trees.named_leaves(parameters)
        if re.search(STACKED, name) and leaf.shape[0] <= train.freeze_layers
    ]
    if not problems and set(chosen) <= set(still):
        problems = [f"train.freeze_layers={train.freeze_layers} leaves nothing to train of {', '.join(chosen)}"]
    if fixed:
        problems.append(
            f"quantization.mode keeps {', '.join(fixed)} in few bits, which cannot be trained: set adapter.rank, or "
            "name what is trained in train.trainable"
        )
    if problems:
        raise ConfigError(config.listing(problems))
    return jax.tree_util.tree_map_with_path(lambda path, _: trees.name(path) in chosen, parameters)


def is_found(patterns: Sequence[str], name: str) -> bool:
    """Return whether one of the regular expressions is found in a name."""
    return any(re.search(pattern, name) for pattern in patterns)


def unfound(setting: str, patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a line for each regular expression that is found in none of the names."""
    return [
        f"{setting}={pattern} matches nothing; there are: {', '.join(names)}"
        for pattern in patterns
        if not any(re.search(pattern, name) for name in names)
    ]


def num_trained(train: config.Train, parameters: trees.PyTree) -> int:
    """Return how many numbers of the trained leaves may change."""
    whole = trees.num_parameters(parameters)
    if not train.freeze_layers:
        return whole
    stacked = [leaf for name, leaf in trees.named_leaves(parameters) if re.search(STACKED, name)]
    return whole - sum(math.prod(leaf.shape[1:]) * min(train.freeze_layers, leaf.shape[0]) for leaf in stacked)


def hold(num_layers: int, new: trees.PyTree, old: trees.PyTree) -> trees.PyTree:
    """Return `new` with the first layers of its stacked leaves as `old` has them."""
    if not num_layers:
        return new

    def held(path: Sequence[object], new: jax.Array, old: jax.Array) -> jax.Array:
        if not re.search(STACKED, trees.name(path)):
            return new
        layer = jnp.arange(len(new)).reshape(-1, *[1] * (new.ndim - 1))
        return jnp.where(layer >= num_layers, new, old)

    return jax.tree_util.tree_map_with_path(held, new, old)
