"""AdamW (Loshchilov and Hutter 2019) from optax, with decay where it belongs."""

import jax
import optax

from codex_jax import config, trees
from codex_jax.training import schedule


# Decided by name, not by rank: the biases of stacked layers have two axes.
DECAY = (
    (r"(^|/)(bias|scale)$", False),
    (r"^(positions|types)/embedding$", False),
    (r"(^|/)(kernel|embedding|lora_a|lora_b)$", True),
)


def make(optimizer: config.Optimizer, num_steps: int, parameters: trees.PyTree) -> optax.GradientTransformation:
    """Return AdamW for these parameters (arrays or shapes); ConfigError when `DECAY` does not cover every leaf."""
    return optax.chain(
        optax.scale_by_adam(b1=optimizer.beta1, b2=optimizer.beta2, eps=optimizer.epsilon),
        optax.add_decayed_weights(optimizer.weight_decay, trees.by_rule(parameters, DECAY, "weight decay")),
        optax.scale_by_learning_rate(lambda count: schedule.learning_rate(count, optimizer, num_steps)),
    )


def at_step(state: optax.OptState, step: jax.Array) -> optax.OptState:
    """Return the state of `make`'s optimizer with its schedule at a step, which is ahead of it by what was left out."""
    *moments, rate = state
    return (*moments, rate._replace(count=step))


def clip_factor(norm: jax.Array, limit: float) -> jax.Array | float:
    """Return what to multiply a gradient of this global norm by so that it is at most `limit` long; 0 is no limit."""
    # A factor, not optax.clip_by_global_norm: it folds into the update, which saves a pass over all gradients.
    return 1.0 if limit == 0.0 else jax.numpy.minimum(1.0, limit / jax.numpy.maximum(norm, 1e-30))
