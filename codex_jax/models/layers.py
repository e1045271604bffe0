"""The layers every architecture is built from: matrix product, embedding, layer norm, dropout.

Types are decided here and in `products`: parameters, activations, softmax and sums are float32; only the operands of
matrix products are cast to the compute dtype, and on accelerators what goes from one product to the next.

B batch · L query length · D model · F features of a product
"""

import jax
import jax.numpy as jnp
from flax import nnx

from codex_jax.models import lookup, products


class Dense(nnx.Module):
    """A product with a kernel over the last axis, plus a bias: (..., D) -> (..., F).

    `features` may be several axes, e.g. (3, D) for the query, key and value of attention.
    """

    def __init__(self, inputs: int, features: tuple[int, ...], *, stddev: float, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.kernel = nnx.Param(stddev * jax.random.normal(rngs.params(), (inputs, *features)))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, hidden: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...], self.bias[...]
        features = bias.shape
        flat = products.dense(hidden, kernel.reshape(kernel.shape[0], -1), self.dtype)
        return flat.reshape(*hidden.shape[:-1], *features) + jnp.broadcast_to(bias, (*hidden.shape[:-1], *features))


class Embedding(nnx.Module):
    """A table of rows looked up by index: (...,) int32 -> (..., D)."""

    def __init__(self, rows: int, width: int, *, stddev: float, rngs: nnx.Rngs):
        self.embedding = nnx.Param(stddev * jax.random.normal(rngs.params(), (rows, width)))

    def __call__(self, indices: jax.Array) -> jax.Array:
        return lookup.look_up(self.embedding[...], indices)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis (Ba et al. 2016), in float32."""

    def __init__(self, width: int, *, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, hidden_BLD: jax.Array) -> jax.Array:
        mean_BL1 = jnp.mean(hidden_BLD, axis=-1, keepdims=True)
        centred_BLD = hidden_BLD - mean_BL1
        variance_BL1 = jnp.mean(jnp.square(centred_BLD), axis=-1, keepdims=True)
        normal_BLD = centred_BLD * jax.lax.rsqrt(variance_BL1 + self.epsilon)
        return normal_BLD * self.scale[...][None, None] + self.bias[...][None, None]


def dropout(hidden: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zero a share `rate` of the elements and scale the rest; the identity without a key."""
    if key is None or rate == 0.0:
        return hidden
    kept = jax.random.bernoulli(key, 1.0 - rate, hidden.shape)
    return jnp.where(kept, hidden / (1.0 - rate), 0.0)
