"""What training carries from step to step, and how it begins."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from codex_jax import config
from codex_jax.models import build


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything an update reads and writes; what is fixed is closed over by the step."""

    step: jax.Array
    """updates done, int32"""
    parameters: dict[str, Any]
    optimizer: optax.OptState
    key: jax.Array
    """typed PRNG key, never changed: the keys of step n are folded in from it"""


def initial(settings: config.Config, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first update; call it under jit so that each leaf is made where it will live."""
    root = jax.random.key(settings.run.seed)
    key_parameters, key_training = jax.random.split(root)
    parameters = build.initial(settings.model, key_parameters)
    return TrainState(jnp.zeros((), jnp.int32), parameters, optimizer.init(parameters), key_training)
