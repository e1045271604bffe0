"""What the gradient and the weights of each leaf and layer are like: norms, and how the weights are spread.

A program of its own takes the gradient once more, so the step is the same program whether anybody looks or not.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, trees
from codex_jax.models import build
from codex_jax.training import masking, step, subtree
from codex_jax.training.state import TrainState


BINS = 64


class Spread(NamedTuple):
    """How the numbers of a leaf are spread, all its layers together."""

    low: jax.Array
    high: jax.Array
    counts_BINS: jax.Array
    """in bins of equal width from `low` to `high`"""


class Layers(NamedTuple):
    """Of each trained leaf, by its name; norms of a leaf with stacked layers are (N,), of another ()."""

    grad_norm: dict[str, jax.Array]
    """of the mean gradient, before clipping, as in the step's own norm"""
    weight_norm: dict[str, jax.Array]
    """of the weights that the gradient was taken at"""
    spread: dict[str, Spread]


Look = Callable[[TrainState, dict[str, Any], tuple[jax.Array, ...]], Layers]


def make(settings: config.Config, definition: build.Definition, prepare: masking.Prepare, mesh: Mesh) -> Look:
    """Return `look(state, frozen, batch)`, to be jitted: what the update of that state by that batch would find."""
    gradient = step.make_gradient(settings, definition, prepare, mesh)

    def look(state: TrainState, frozen: dict[str, Any], batch: tuple[jax.Array, ...]) -> Layers:
        grads, sums = gradient(state, frozen, batch)
        weight = jnp.maximum(sums.weight, 1.0)
        weights = dict(trees.named_leaves(state.parameters))
        return Layers(
            {name: _norm(name, leaf) / weight for name, leaf in trees.named_leaves(grads)},
            {name: _norm(name, leaf) for name, leaf in weights.items()},
            {name: _spread(leaf) for name, leaf in weights.items()},
        )

    return look


def norms(layers: Layers) -> dict[str, float]:
    """Return the norms by names such as grad_norm/blocks/3/mlp/up/kernel; `layers` holds NumPy arrays."""
    found = {}
    for kind, leaves in (("grad_norm", layers.grad_norm), ("weight_norm", layers.weight_norm)):
        for name, values in leaves.items():
            for index, value in enumerate(np.atleast_1d(values)):
                one = name.replace("/", f"/{index}/", 1) if np.ndim(values) else name
                found[f"{kind}/{one}"] = float(value)
    return found


def histograms(layers: Layers) -> Iterator[tuple[str, list[float], list[int]]]:
    """Yield the name, edges and counts of each leaf whose weights are all finite; `layers` holds NumPy arrays."""
    for name, (low, high, counts) in layers.spread.items():
        if np.isfinite(low) and np.isfinite(high):
            yield f"weights/{name}", np.linspace(float(low), float(high), BINS + 1).tolist(), counts.tolist()


def _norm(name: str, leaf: jax.Array) -> jax.Array:
    is_stacked = subtree.is_found([subtree.STACKED], name)
    return jnp.sqrt(jnp.sum(jnp.square(leaf), axis=tuple(range(1, leaf.ndim)) if is_stacked else None))


def _spread(leaf: jax.Array) -> Spread:
    low, high = jnp.min(leaf), jnp.max(leaf)
    half = jnp.where(high > low, 0.0, 0.5)  # as NumPy does where all are equal
    low, high = low - half, high + half
    bins = jnp.clip(((leaf - low) / (high - low) * BINS).astype(jnp.int32), 0, BINS - 1)
    return Spread(low, high, jnp.bincount(bins.ravel(), length=BINS))
