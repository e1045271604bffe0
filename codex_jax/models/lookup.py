"""Rows of a table by index, with a gradient that is added up in one order, whatever the backend.

T lookups · R rows of the table · D model
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@jax.custom_vjp
def look_up(table_RD: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the rows (..., D) of a table at indices (...,) int32; those outside take the nearest row."""
    return jnp.take(table_RD, indices, axis=0, mode="clip")


def _forward(table_RD: jax.Array, indices: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return look_up(table_RD, indices), (table_RD, indices)


def _backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, np.ndarray[tuple[int, ...], Any]]:
    table_RD, indices = saved
    indices_T = jnp.clip(indices.reshape(-1), 0, len(table_RD) - 1)
    cotangent_TD = cotangent.reshape(-1, cotangent.shape[-1])
    add = add_sorted if jax.default_backend() == "gpu" else add_in_turn
    return add(cotangent_TD, indices_T, len(table_RD)), np.zeros(indices.shape, jax.dtypes.float0)


look_up.defvjp(_forward, _backward)


def add_in_turn(values_TD: jax.Array, rows_T: jax.Array, count: int) -> jax.Array:
    """Return a table (count, D) of zeros with each value added to its row. A GPU would not keep to an order."""
    return jnp.zeros((count, values_TD.shape[1]), values_TD.dtype).at[rows_T].add(values_TD)


def add_sorted(values_TD: jax.Array, rows_T: jax.Array, count: int) -> jax.Array:
    """Return what `add_in_turn` does, in an order that a GPU keeps to.

    The values are sorted by row and summed along each run of a row by a scan; one value a row is then written. XLA's
    own deterministic addition sorts numbers instead of rows and took a fifth of a step (docs/benchmarks.md).
    """
    order_T = jnp.argsort(rows_T)
    rows_T, values_TD = rows_T[order_T], values_TD[order_T]
    changes_T = rows_T[1:] != rows_T[:-1]
    edge_1 = jnp.ones(1, bool)
    begins_T, ends_T = jnp.concatenate([edge_1, changes_T]), jnp.concatenate([changes_T, edge_1])

    def join(left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return left[0] | right[0], jnp.where(right[0], right[1], left[1] + right[1])

    _, sums_TD = jax.lax.associative_scan(join, (begins_T[:, None], values_TD))
    # All places are different, also those that fall outside and are dropped: nothing is added, so order has no say.
    places_T = jnp.where(ends_T, rows_T, count + jnp.arange(len(rows_T)))
    table_RD = jnp.zeros((count, values_TD.shape[1]), values_TD.dtype)
    return table_RD.at[places_T].set(sums_TD, mode="drop", unique_indices=True)
