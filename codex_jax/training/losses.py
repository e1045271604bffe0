"""Cross-entropy of next-token prediction that never holds the logits of more than a chunk of tokens.

The forward pass over a chunk also makes its gradient, since the loss is linear in what comes after it: three products a
chunk and nothing recomputed.

T tokens of the batch, flattened · C tokens of a chunk · D model · V vocabulary
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from codex_jax import trees
from codex_jax.models import build
from codex_jax.models.products import multiply, transposed


class Sums(NamedTuple):
    """Sums over tokens, to be added over microbatches and divided once by `weight`."""

    loss: jax.Array
    """negative log-likelihood, in nats"""
    correct: jax.Array
    """weight of tokens whose likeliest prediction was right"""
    weight: jax.Array


def of_batch(
    definition: build.Definition,
    parameters: trees.PyTree,
    batch: tuple[jax.Array, ...],
    key: jax.Array | None,
    *,
    chunk: int,
) -> Sums:
    """Return the sums of a model over a batch of tokens, targets, weights, segments and positions, each (B, L).

    With a key, dropout is on. `chunk` counts tokens over all devices.
    """
    tokens_BL, targets_BL, weights_BL, segments_BL, positions_BL = batch
    model = definition.bind(parameters, key)
    hidden_BLD = model(tokens_BL, segments_BL, positions_BL, key)
    return next_token(hidden_BLD, model.head(), targets_BL, weights_BL, chunk=chunk, dtype=model.how.dtype)


def next_token(
    hidden_BLD: jax.Array,
    head_VD: jax.Array,
    targets_BL: jax.Array,
    weights_BL: jax.Array,
    *,
    chunk: int,
    dtype: jnp.dtype,
) -> Sums:
    """Return the weighted sums over all positions; differentiable in hidden_BLD and head_VD through `loss`."""
    tokens = targets_BL.size
    chunk = min(chunk, tokens)
    padding = -tokens % chunk
    hidden_TD = jnp.pad(hidden_BLD.reshape(tokens, -1), ((0, padding), (0, 0)))
    targets_T = jnp.pad(targets_BL.reshape(tokens), (0, padding))
    weights_T = jnp.pad(weights_BL.reshape(tokens), (0, padding))
    loss, correct = _sums(hidden_TD, head_VD, targets_T, weights_T, chunk, dtype)
    return Sums(loss, jax.lax.stop_gradient(correct), jnp.sum(weights_BL))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _sums(
    hidden_TD: jax.Array, head_VD: jax.Array, targets_T: jax.Array, weights_T: jax.Array, chunk: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    small_VD = _padded(head_VD.astype(dtype))

    def add(sums: tuple[jax.Array, jax.Array], part: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], None]:
        loss, correct, _ = _chunk_loss(part, small_VD, len(head_VD))
        return (sums[0] + loss, sums[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    return jax.lax.scan(add, (zero, zero), _chunks(chunk, hidden_TD, targets_T, weights_T))[0]


def _forward(
    hidden_TD: jax.Array, head_VD: jax.Array, targets_T: jax.Array, weights_T: jax.Array, chunk: int, dtype: jnp.dtype
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    parts = _chunks(chunk, hidden_TD, targets_T, weights_T)
    small_VD = _padded(head_VD.astype(dtype))

    def one(part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        loss, correct, slope_CV = _chunk_loss(part, small_VD, len(head_VD))
        slope_CV = slope_CV.astype(dtype)
        hidden_CD = part[0].astype(dtype)
        return loss, correct, multiply(slope_CV, small_VD), multiply(transposed(slope_CV), hidden_CD)

    if parts[0].shape[0] == 1:  # no running sum of the size of the head where one chunk is all
        loss, correct, slope_CD, slope_VD = one(jax.tree.map(lambda array: array[0], parts))
        return (loss, correct), (slope_CD, slope_VD[: len(head_VD)])

    def add(
        sums: tuple[jax.Array, jax.Array, jax.Array], part: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        loss, correct, slope_CD, slope_VD = one(part)
        return (sums[0] + loss, sums[1] + correct, sums[2] + slope_VD), slope_CD

    zero = jnp.zeros((), jnp.float32)
    empty_VD = jnp.zeros(small_VD.shape, jnp.float32)
    (loss, correct, slope_VD), slope_NCD = jax.lax.scan(add, (zero, zero, empty_VD), parts)
    return (loss, correct), (slope_NCD.swapaxes(0, 1).reshape(hidden_TD.shape), slope_VD[: len(head_VD)])


def _backward(
    chunk: int, dtype: jnp.dtype, slopes: tuple[jax.Array, jax.Array], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, None, None]:
    slope_TD, slope_VD = slopes
    return cotangents[0] * slope_TD, cotangents[0] * slope_VD, None, None


_sums.defvjp(_forward, _backward)


def _padded(head_VD: jax.Array) -> jax.Array:
    """Return the head with rows of zeros up to a number of tokens that the backend multiplies fast."""
    # A GPU's tensor cores want rows of whole 128 bytes: with GPT-2's 50,257 tokens a product takes five times as long.
    multiple = 64 if jax.default_backend() == "gpu" else 1
    return jnp.pad(head_VD, ((0, -len(head_VD) % multiple), (0, 0)))


def _chunk_loss(
    part: tuple[jax.Array, ...], head_VD: jax.Array, vocab_size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the summed loss, the summed hits, and the derivative of the loss by the logits (C, V).

    Of the head only the first `vocab_size` rows are tokens.
    """
    hidden_CD, targets_C, weights_C = part
    logits_CV = multiply(hidden_CD.astype(head_VD.dtype), transposed(head_VD))
    if vocab_size < len(head_VD):
        logits_CV = jnp.where(jnp.arange(len(head_VD))[None] < vocab_size, logits_CV, -jnp.inf)
    top_C = jnp.max(logits_CV, axis=-1)
    log_sum_C = top_C + jnp.log(jnp.sum(jnp.exp(logits_CV - top_C[:, None]), axis=-1))
    target_C = jnp.take_along_axis(logits_CV, targets_C[:, None], axis=-1)[:, 0]
    loss = jnp.sum(weights_C * (log_sum_C - target_C))
    # A tie counts as a hit: at equal logits no token is likelier than the target.
    correct = jnp.sum(weights_C * (target_C >= top_C))
    hit_CV = jnp.arange(head_VD.shape[0])[None] == targets_C[:, None]
    # A second exponential, so that the first is never written: it costs less than the memory it would take.
    return loss, correct, weights_C[:, None] * (jnp.exp(logits_CV - log_sum_C[:, None]) - hit_CV)


def _chunks(chunk: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    # Token t goes to chunk t % n, so that each device, which holds neighbours, has its part of every chunk.
    return tuple(array.reshape(chunk, -1, *array.shape[1:]).swapaxes(0, 1) for array in arrays)
