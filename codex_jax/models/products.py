"""Matrix products in the forms that are fast on every backend, with their derivatives written out."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(hidden: jax.Array, kernel_DF: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return hidden (..., D) times kernel_DF: operands in `dtype`, sums in float32."""
    return multiply(hidden.astype(dtype), kernel_DF.astype(dtype))


def _dense_forward(
    hidden: jax.Array, kernel_DF: jax.Array, dtype: jnp.dtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    hidden, kernel_DF = hidden.astype(dtype), kernel_DF.astype(dtype)
    return multiply(hidden, kernel_DF), (hidden, kernel_DF)


def _dense_backward(
    dtype: jnp.dtype, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    hidden, kernel_DF = saved
    cotangent = cotangent.astype(dtype)
    hidden_TD = hidden.reshape(-1, hidden.shape[-1])
    cotangent_TF = cotangent.reshape(-1, cotangent.shape[-1])
    return multiply(cotangent, transposed(kernel_DF)), multiply(transposed(hidden_TD), cotangent_TF)


dense.defvjp(_dense_forward, _dense_backward)


def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
    """Return left (..., D) times right (D, F) with sums in float32."""
    return jnp.dot(left, right, preferred_element_type=jnp.float32)


def transposed(matrix: jax.Array) -> jax.Array:
    """Return the transpose of a matrix, on a CPU as a copy in rows.

    XLA would rather turn a transpose into a layout, and the CPU's fast 16-bit product takes rows only: the copy makes
    it twice as fast (docs/benchmarks.md).
    """
    if jax.default_backend() != "cpu" or matrix.dtype.itemsize != 2:
        return matrix.T
    # The barrier keeps what made the matrix out of the copy, which would otherwise read all of it across the grain.
    return with_layout_constraint(jax.lax.optimization_barrier(matrix).T, Layout((0, 1)))
