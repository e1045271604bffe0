"""Kernels in few bits: how far they are from what they stand for, and that their bytes are few."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codex_jax.models import codes


pytestmark = pytest.mark.model

FLOAT32 = jnp.dtype("float32")


def kernel(inputs: int, features: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((inputs, features)).astype(np.float32))


@pytest.mark.parametrize("inputs", [64, 192, 100, 7])
def test_int8_is_within_half_a_step_of_the_largest_in_its_column(inputs: int) -> None:
    exact_DF = kernel(inputs, 5)
    coded = codes.encode(exact_DF, "int8")
    error_DF = np.abs(codes.decode(coded, inputs, FLOAT32) - exact_DF)
    assert coded.codes.dtype == jnp.int8 and coded.codes.shape == (inputs, 5)
    assert np.all(error_DF <= np.abs(exact_DF).max(axis=0) / 254 * (1 + 1e-5))


@pytest.mark.parametrize("inputs", [64, 192, 100, 7])
def test_nf4_takes_the_nearest_of_sixteen_values_in_each_block(inputs: int) -> None:
    exact_DF = np.asarray(kernel(inputs, 5))
    coded = codes.encode(jnp.asarray(exact_DF), "nf4")
    decoded_DF = np.asarray(codes.decode(coded, inputs, FLOAT32))
    for first in range(0, inputs, codes.BLOCK):
        block = exact_DF[first : first + codes.BLOCK]
        largest_F = np.abs(block).max(axis=0)
        nearest = np.abs(block[..., None] - largest_F[:, None] * codes.NF4_16).min(axis=-1)
        error = np.abs(block - decoded_DF[first : first + codes.BLOCK])
        np.testing.assert_allclose(error, nearest, atol=1e-6)
        assert np.all(error <= 0.152 * largest_F)


@pytest.mark.parametrize(("mode", "bits", "error"), [("int8", 8.1, 0.011), ("nf4", 4.6, 0.1)])
def test_bytes_and_error_of_a_normal_kernel_are_those_documented(mode: str, bits: float, error: float) -> None:
    exact_DF = kernel(1024, 128)
    coded = codes.encode(exact_DF, mode)
    assert 8 * sum(leaf.nbytes for leaf in coded) / exact_DF.size <= bits
    decoded_DF = codes.decode(coded, 1024, FLOAT32)
    assert float(jnp.linalg.norm(decoded_DF - exact_DF) / jnp.linalg.norm(exact_DF)) < error
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), coded) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), codes.shapes(1024, 128, mode)
    )


@pytest.mark.parametrize("mode", codes.MODES)
def test_zeros_stay_zeros_and_coding_twice_changes_nothing(mode: str) -> None:
    assert not np.any(codes.decode(codes.encode(jnp.zeros((70, 3)), mode), 70, FLOAT32))
    once = codes.decode(codes.encode(kernel(70, 3), mode), 70, FLOAT32)
    np.testing.assert_allclose(codes.decode(codes.encode(once, mode), 70, FLOAT32), once, rtol=1e-6)
