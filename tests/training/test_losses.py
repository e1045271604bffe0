"""The chunked loss against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codex_jax.training import losses


pytestmark = pytest.mark.model


def example(seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    hidden_BLD = jnp.array(rng.standard_normal((3, 7, 16)), jnp.float32)
    head_VD = jnp.array(rng.standard_normal((29, 16)), jnp.float32)
    targets_BL = jnp.array(rng.integers(0, 29, (3, 7)), jnp.int32)
    weights_BL = jnp.array(rng.integers(0, 2, (3, 7)), jnp.float32)
    return hidden_BLD, head_VD, targets_BL, weights_BL


def plain(hidden_BLD: jax.Array, head_VD: jax.Array, targets_BL: jax.Array, weights_BL: jax.Array) -> jax.Array:
    per_token_BL = optax.softmax_cross_entropy_with_integer_labels(
        jnp.matmul(hidden_BLD, head_VD.T, precision="highest"), targets_BL
    )
    return jnp.sum(per_token_BL * weights_BL)


@pytest.mark.parametrize("chunk", [1, 4, 20, 21, 1000])
def test_value_and_gradient_equal_the_plain_loss_for_any_chunk(chunk: int) -> None:
    hidden_BLD, head_VD, targets_BL, weights_BL = example()

    def ours(hidden_BLD: jax.Array, head_VD: jax.Array) -> jax.Array:
        return losses.of_tokens(
            hidden_BLD, losses.Head(head_VD), targets_BL, weights_BL, chunk=chunk, dtype=jnp.dtype("float32")
        ).loss

    value, slopes = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(hidden_BLD, head_VD)
    expected, expected_slopes = jax.jit(jax.value_and_grad(plain, argnums=(0, 1)))(
        hidden_BLD, head_VD, targets_BL, weights_BL
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(ours)(hidden_BLD, head_VD), expected, rtol=1e-5)
    for slope, wanted in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [4, 1000])
def test_bias_of_the_head_adds_to_the_logits_and_has_its_gradient(chunk: int) -> None:
    hidden_BLD, head_VD, targets_BL, weights_BL = example()
    bias_V = jnp.array(np.random.default_rng(5).standard_normal(29), jnp.float32)

    def ours(head: losses.Head) -> jax.Array:
        return losses.of_tokens(hidden_BLD, head, targets_BL, weights_BL, chunk=chunk, dtype=jnp.dtype("float32")).loss

    def same(head: losses.Head) -> jax.Array:  # the bias as one more number of the matrix
        wide_BLD = jnp.concatenate([hidden_BLD, jnp.ones((3, 7, 1))], axis=-1)
        return plain(wide_BLD, jnp.concatenate([head.matrix_VD, head.bias_V[:, None]], axis=1), targets_BL, weights_BL)

    head = losses.Head(head_VD, bias_V)
    value, slope = jax.jit(jax.value_and_grad(ours))(head)
    expected, expected_slope = jax.jit(jax.value_and_grad(same))(head)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for found, wanted in zip(slope, expected_slope, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_correct_counts_weighted_hits() -> None:
    hidden_BLD, head_VD, _, weights_BL = example()
    likeliest_BL = jnp.argmax(hidden_BLD @ head_VD.T, axis=-1).astype(jnp.int32)
    sums = losses.of_tokens(
        hidden_BLD, losses.Head(head_VD), likeliest_BL, weights_BL, chunk=5, dtype=jnp.dtype("float32")
    )
    assert float(sums.correct) == float(sums.weight) == float(weights_BL.sum())
    worst_BL = jnp.argmin(hidden_BLD @ head_VD.T, axis=-1).astype(jnp.int32)
    assert (
        losses.of_tokens(
            hidden_BLD, losses.Head(head_VD), worst_BL, weights_BL, chunk=5, dtype=jnp.dtype("float32")
        ).correct
        == 0
    )


def test_uniform_prediction_costs_the_log_of_the_vocabulary() -> None:
    _, head_VD, targets_BL, _ = example()
    sums = losses.of_tokens(
        jnp.zeros((3, 7, 16)), losses.Head(head_VD), targets_BL, jnp.ones((3, 7)), chunk=8, dtype=jnp.dtype("float32")
    )
    assert float(sums.loss / sums.weight) == pytest.approx(np.log(29), rel=1e-6)


def test_tokens_of_weight_zero_give_no_gradient() -> None:
    hidden_BLD, head_VD, targets_BL, _ = example()
    weights_BL = jnp.zeros((3, 7)).at[0, :3].set(1.0)

    def loss(hidden_BLD: jax.Array) -> jax.Array:
        return losses.of_tokens(
            hidden_BLD, losses.Head(head_VD), targets_BL, weights_BL, chunk=4, dtype=jnp.dtype("float32")
        ).loss

    slope_BLD = jax.jit(jax.grad(loss))(hidden_BLD)
    assert bool(jnp.all(slope_BLD[0, 3:] == 0)) and bool(jnp.all(slope_BLD[1:] == 0))
    assert bool(jnp.all(jnp.abs(slope_BLD[0, :3]).sum(-1) > 0))
