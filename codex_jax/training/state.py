"""What training carries from step to step, and how it begins.

Of the parameters of a model some may be frozen: the state holds those that are trained, and moments for them alone. The
others are given to a step beside it, never change, and are in no checkpoint.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from codex_jax import config, trees
from codex_jax.models import build, lora


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything an update reads and writes; what is fixed is closed over by the step."""

    step: jax.Array
    """updates done, int32"""
    parameters: dict[str, Any]
    """those that are trained"""
    optimizer: optax.OptState
    key: jax.Array
    """typed PRNG key, never changed: the keys of step n are folded in from it"""


def initial(
    settings: config.Config,
    definition: build.Definition,
    optimizer: optax.GradientTransformation,
    trained: trees.PyTree,
    given: dict[str, Any],
) -> TrainState:
    """Return the state before the first update; call it under jit so that each leaf is made where it will live.

    `trained` says of every leaf of the model whether it is trained; of those, the ones not `given` are made here.
    """
    root = jax.random.key(settings.run.seed)
    key_parameters, key_training = jax.random.split(root)
    base, adapters = build.initial(settings.model, key_parameters), lora.initial(definition.abstract, key_parameters)
    made, _ = trees.split(trees.joined(base, adapters), trained)
    parameters = trees.replaced(made, given)
    return TrainState(jnp.zeros((), jnp.int32), parameters, optimizer.init(parameters), key_training)
