"""Matrix products in the forms that are fast on every backend, with their derivatives written out."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


FLOAT32 = jnp.dtype("float32")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def dense(hidden: jax.Array, kernel_DF: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return hidden (..., D) times kernel_DF: operands in `dtype`, sums in float32, the result as `passed_on` says."""
    return multiply(hidden.astype(dtype), kernel_DF.astype(dtype), passed_on(dtype))


def _dense_forward(
    hidden: jax.Array, kernel_DF: jax.Array, dtype: jnp.dtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    given_0 = jnp.zeros(0, hidden.dtype)  # only for its type, which the gradient must have
    hidden, kernel_DF = hidden.astype(dtype), kernel_DF.astype(dtype)
    return multiply(hidden, kernel_DF, passed_on(dtype)), (hidden, kernel_DF, given_0)


def _dense_backward(
    dtype: jnp.dtype, saved: tuple[jax.Array, jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    hidden, kernel_DF, given_0 = saved
    cotangent = cotangent.astype(dtype)
    hidden_TD = hidden.reshape(-1, hidden.shape[-1])
    cotangent_TF = cotangent.reshape(-1, cotangent.shape[-1])
    slope = multiply(cotangent, transposed(kernel_DF), passed_on(dtype))
    return slope.astype(given_0.dtype), multiply(transposed(hidden_TD), cotangent_TF)


dense.defvjp(_dense_forward, _dense_backward)


def multiply(left: jax.Array, right: jax.Array, result: jnp.dtype = FLOAT32) -> jax.Array:
    """Return left (..., D) times right (D, F): sums in float32, then rounded to the type `result`."""
    return jnp.dot(left, right, precision=precision(left.dtype), preferred_element_type=result)


def precision(dtype: jnp.dtype) -> jax.lax.Precision:
    """Return how exactly operands of a type are multiplied: as they are, not cut to TF32 or bfloat16."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


def passed_on(dtype: jnp.dtype) -> jnp.dtype:
    """Return the type of an activation between two products whose operands are `dtype`.

    A GPU would spend as long on writing float32 and reading it again as on the products. A CPU's fast product writes
    float32 in any case.
    """
    return FLOAT32 if jax.default_backend() == "cpu" else dtype


def kept_as(dtype: jnp.dtype) -> jnp.dtype:
    """Return the type in which operands of `dtype` are kept while text is generated.

    A CPU multiplies one row with a 16-bit matrix ten times slower than with a float32 one that holds the same values.
    """
    return FLOAT32 if jax.default_backend() == "cpu" else dtype


def rounded(array: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return the values as `dtype` has them, in the type `kept_as` says."""
    if dtype == FLOAT32 or kept_as(dtype) == dtype:
        return array.astype(dtype)
    # Two casts would not do: XLA may leave out both.
    info = jnp.finfo(dtype)
    return jax.lax.reduce_precision(array.astype(jnp.float32), exponent_bits=info.nexp, mantissa_bits=info.nmant)


def turned(kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Return a kernel (D, ...) as `by_rows` takes it, (F, D), rounded to the type of products."""
    return rounded(kernel.reshape(kernel.shape[0], -1).T, dtype)


def by_rows(hidden: jax.Array, rows_FD: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Return hidden (..., D) times the transpose of a matrix that `rounded` gave: sums in float32, then as `result`.

    The matrix is read once, in the order it lies in: for few rows of hidden on a CPU twice as fast as `dense`.
    """
    hidden_TD = rounded(hidden.reshape(-1, hidden.shape[-1]), dtype)
    product_FT = jnp.dot(rows_FD, hidden_TD.T, precision=precision(rows_FD.dtype), preferred_element_type=result)
    # Without the barrier XLA swaps the operands.
    return jax.lax.optimization_barrier(product_FT).T.reshape(*hidden.shape[:-1], -1)


def few_rows(hidden: jax.Array, kernel_DF: jax.Array, dtype: jnp.dtype, result: jnp.dtype) -> jax.Array:
    """Return what `by_rows` does, of a kernel as `dense` takes it."""
    return multiply(rounded(hidden, dtype), rounded(kernel_DF, dtype), result)


def transposed(matrix: jax.Array) -> jax.Array:
    """Return the transpose of a matrix, on a CPU as a copy in rows.

    XLA would rather turn a transpose into a layout, and the CPU's fast 16-bit product takes rows only: the copy makes
    it twice as fast (docs/benchmarks.md).
    """
    if jax.default_backend() != "cpu" or matrix.dtype.itemsize != 2:
        return matrix.T
    # The barrier keeps what made the matrix out of the copy, which would otherwise read all of it across the grain.
    return with_layout_constraint(jax.lax.optimization_barrier(matrix).T, Layout((0, 1)))
