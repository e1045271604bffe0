"""The learning rate as a function of the step."""

import jax
import jax.numpy as jnp

from codex_jax import config


def learning_rate(step: jax.Array | int, optimizer: config.Optimizer, num_steps: int) -> jax.Array:
    """Return the rate of update number `step` (from 0): linear warm-up, then a cosine to the final rate at the end."""
    step = jnp.asarray(step, jnp.float32)
    warmup = optimizer.warmup_steps
    rising = (step + 1.0) / max(1, warmup)
    progress = jnp.clip((step - warmup) / max(1, num_steps - warmup), 0.0, 1.0)
    span = optimizer.learning_rate - optimizer.final_learning_rate
    falling = optimizer.final_learning_rate + span * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return jnp.where(step < warmup, optimizer.learning_rate * rising, falling)
