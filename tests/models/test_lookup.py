"""The gradient of a lookup: both ways of adding up against numpy, and the one for a GPU in its own order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.models import lookup


pytestmark = pytest.mark.model


@pytest.mark.parametrize("rows_T", [[0], [3, 3, 3, 3, 3], [4, 0, 2, 0, 4, 4, 1, 0], list(range(5)) * 7])
@pytest.mark.parametrize("add", [lookup.add_sorted, lookup.add_in_turn])
def test_values_are_added_to_their_rows(add: object, rows_T: list[int]) -> None:
    values_TD = np.random.default_rng(0).standard_normal((len(rows_T), 3)).astype(np.float32)
    expected_RD = np.zeros((6, 3))
    np.add.at(expected_RD, rows_T, values_TD.astype(np.float64))
    found_RD = jax.jit(add, static_argnums=2)(values_TD, jnp.array(rows_T), 6)  # type: ignore[arg-type]
    np.testing.assert_allclose(found_RD, expected_RD, atol=1e-5)


def test_an_index_outside_takes_the_nearest_row_and_teaches_it() -> None:
    table_RD = jnp.arange(6.0).reshape(3, 2)
    indices_BL = jnp.array([[0, 7], [-1, 2]])
    np.testing.assert_array_equal(lookup.look_up(table_RD, indices_BL), [[[0, 1], [4, 5]], [[0, 1], [4, 5]]])
    slope_RD = jax.grad(lambda table_RD: lookup.look_up(table_RD, indices_BL).sum())(table_RD)
    np.testing.assert_array_equal(slope_RD, [[2, 2], [0, 0], [2, 2]])


@pytest.mark.gpu
def test_a_gpu_adds_up_alike_every_time() -> None:
    rng = np.random.default_rng(1)
    table_RD = jnp.array(rng.standard_normal((50, 64)), jnp.float32)
    indices_T, slope_TD = jnp.array(rng.integers(0, 50, 20_000)), jnp.array(rng.standard_normal((20_000, 64)))

    @jax.jit
    def gradient() -> jax.Array:
        return jax.grad(lambda table_RD: jnp.sum(lookup.look_up(table_RD, indices_T) * slope_TD))(table_RD)

    first_RD = np.asarray(gradient())
    for _ in range(20):
        np.testing.assert_array_equal(np.asarray(gradient()), first_RD)
