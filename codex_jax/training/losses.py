"""Cross-entropy of predicted tokens that never holds the logits of more than a chunk of them, and of predicted classes.

The forward pass over a chunk also makes its gradient, since the loss is linear in what comes after it: three products a
chunk and nothing recomputed.

T tokens of the batch, flattened · C tokens of a chunk · D model · V vocabulary, or classes
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from codex_jax import trees
from codex_jax.models import build
from codex_jax.models.products import multiply, transposed


class Lesson(NamedTuple):
    """What a model is shown, and what it is to say: a batch as it is, or one of which tokens are hidden."""

    tokens_BL: jax.Array
    targets_BL: jax.Array
    """(B, T) of T places in a row, where there are places"""
    weights_BL: jax.Array
    """alike"""
    segments_BL: jax.Array
    positions_BL: jax.Array
    places_BT: jax.Array | None = None
    """where in its row each target is hidden, int32; None: every token says the next"""


class Sums(NamedTuple):
    """Sums over tokens, or over rows of one class each, to be added over microbatches and divided once by `weight`."""

    loss: jax.Array
    """negative log-likelihood, in nats"""
    correct: jax.Array
    """weight of those whose likeliest prediction was right"""
    weight: jax.Array


class Unit(NamedTuple):
    """What is said of what is learnt one by one."""

    plural: str
    """as in the ledger"""
    accuracy: str
    """the share of them that is right, as in the ledger"""


def unit(objective: str) -> Unit:
    """Return what data.objective learns: each text as a whole, or token by token."""
    return Unit("texts", "accuracy") if objective == "classes" else Unit("tokens", "token_accuracy")


def of_batch(
    definition: build.Definition,
    parameters: trees.PyTree,
    batch: tuple[jax.Array, ...],
    key: jax.Array | None,
    *,
    chunk: int,
) -> Sums:
    """Return the sums of a model over a batch: the fields of a Lesson.

    With a key, dropout is on. `chunk` counts tokens over all devices.
    """
    lesson = Lesson(*batch)
    # An encoder that was shown all its targets would learn to repeat them.
    assert (lesson.places_BT is None) == (definition.shape.ending != "hidden"), "masking.make prepares batches"
    model = definition.bind(parameters, key)
    hidden_BLD, bias_V = model(lesson.tokens_BL, lesson.segments_BL, lesson.positions_BL, key), None
    if definition.shape.ending == "classes":
        # Beside the keys of the layers and of the adapters, which are drawn from the same.
        own = None if key is None else jax.random.fold_in(key, 0xFFFFFFFE)
        return of_rows(model.classes(hidden_BLD, own), lesson.targets_BL[:, 0], lesson.weights_BL[:, 0])
    if lesson.places_BT is not None:
        # Logits of what is asked for alone: the head costs as much as all blocks of a small encoder.
        hidden_BLD = model.before_head(jnp.take_along_axis(hidden_BLD, lesson.places_BT[..., None], axis=1))
        bias_V = model.head_bias.bias[...]
    head = Head(model.head(), bias_V)
    return of_tokens(hidden_BLD, head, lesson.targets_BL, lesson.weights_BL, chunk=chunk, dtype=model.how.dtype)


def of_rows(logits_BV: jax.Array, targets_B: jax.Array, weights_B: jax.Array) -> Sums:
    """Return the weighted sums over rows, each of one class; differentiable in the logits through `loss`."""
    losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BV, targets_B)
    hits_B = jnp.take_along_axis(logits_BV, targets_B[:, None], axis=1)[:, 0] >= jnp.max(logits_BV, axis=1)
    return Sums(jnp.sum(weights_B * losses_B), jnp.sum(weights_B * hits_B), jnp.sum(weights_B))


class Head(NamedTuple):
    """What turns a hidden state into the logits of all tokens."""

    matrix_VD: jax.Array
    bias_V: jax.Array | None = None


def of_tokens(
    hidden_BLD: jax.Array,
    head: Head,
    targets_BL: jax.Array,
    weights_BL: jax.Array,
    *,
    chunk: int,
    dtype: jnp.dtype,
) -> Sums:
    """Return the weighted sums over all positions; differentiable in hidden_BLD and the head through `loss`."""
    tokens = targets_BL.size
    chunk = min(chunk, tokens)
    padding = -tokens % chunk
    hidden_TD = jnp.pad(hidden_BLD.reshape(tokens, -1), ((0, padding), (0, 0)))
    targets_T = jnp.pad(targets_BL.reshape(tokens), (0, padding))
    weights_T = jnp.pad(weights_BL.reshape(tokens), (0, padding))
    loss, correct = _sums(hidden_TD, head, targets_T, weights_T, chunk, dtype)
    return Sums(loss, jax.lax.stop_gradient(correct), jnp.sum(weights_BL))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _sums(
    hidden_TD: jax.Array, head: Head, targets_T: jax.Array, weights_T: jax.Array, chunk: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    small = _small(head, dtype)

    def add(sums: tuple[jax.Array, jax.Array], part: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, jax.Array], None]:
        loss, correct, _ = _chunk_loss(part, small, len(head.matrix_VD))
        return (sums[0] + loss, sums[1] + correct), None

    zero = jnp.zeros((), jnp.float32)
    return jax.lax.scan(add, (zero, zero), _chunks(chunk, hidden_TD, targets_T, weights_T))[0]


def _forward(
    hidden_TD: jax.Array, head: Head, targets_T: jax.Array, weights_T: jax.Array, chunk: int, dtype: jnp.dtype
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, Head]]:
    parts = _chunks(chunk, hidden_TD, targets_T, weights_T)
    small, vocab_size = _small(head, dtype), len(head.matrix_VD)

    def one(part: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, jax.Array, Head]:
        loss, correct, slope_CV = _chunk_loss(part, small, vocab_size)
        slope_V = None if head.bias_V is None else jnp.sum(slope_CV[:, :vocab_size], axis=0)
        slope_CV = slope_CV.astype(dtype)
        hidden_CD = part[0].astype(dtype)
        slope_VD = multiply(transposed(slope_CV), hidden_CD)
        return loss, correct, multiply(slope_CV, small.matrix_VD), Head(slope_VD, slope_V)

    def cut(slope: Head) -> Head:
        return slope._replace(matrix_VD=slope.matrix_VD[:vocab_size])

    if parts[0].shape[0] == 1:  # no running sum of the size of the head where one chunk is all
        loss, correct, slope_CD, slope = one(jax.tree.map(lambda array: array[0], parts))
        return (loss, correct), (slope_CD, cut(slope))

    def add(
        sums: tuple[jax.Array, jax.Array, Head], part: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array, Head], jax.Array]:
        loss, correct, slope_CD, slope = one(part)
        return (sums[0] + loss, sums[1] + correct, jax.tree.map(jnp.add, sums[2], slope)), slope_CD

    zero = jnp.zeros((), jnp.float32)
    shapes = Head(small.matrix_VD, head.bias_V)
    empty = jax.tree.map(lambda array: jnp.zeros(array.shape, jnp.float32), shapes)
    (loss, correct, slope), slope_NCD = jax.lax.scan(add, (zero, zero, empty), parts)
    return (loss, correct), (slope_NCD.swapaxes(0, 1).reshape(hidden_TD.shape), cut(slope))


def _backward(
    chunk: int, dtype: jnp.dtype, slopes: tuple[jax.Array, Head], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, Head, None, None]:
    slope_TD, slope = jax.tree.map(lambda array: cotangents[0] * array, slopes)
    return slope_TD, slope, None, None


_sums.defvjp(_forward, _backward)


def _small(head: Head, dtype: jnp.dtype) -> Head:
    """Return the head with rows of zeros up to a number of tokens that the backend multiplies fast, in that type."""
    # A GPU's tensor cores want rows of whole 128 bytes: with GPT-2's 50,257 tokens a product takes five times as long.
    multiple = 64 if jax.default_backend() == "gpu" else 1
    padding = (0, -len(head.matrix_VD) % multiple)
    bias_V = None if head.bias_V is None else jnp.pad(head.bias_V, padding)
    return Head(jnp.pad(head.matrix_VD.astype(dtype), (padding, (0, 0))), bias_V)


def _chunk_loss(part: tuple[jax.Array, ...], head: Head, vocab_size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the summed loss, the summed hits, and the derivative of the loss by the logits (C, V).

    Of the head only the first `vocab_size` rows are tokens.
    """
    hidden_CD, targets_C, weights_C = part
    head_VD = head.matrix_VD
    logits_CV = multiply(hidden_CD.astype(head_VD.dtype), transposed(head_VD))
    if head.bias_V is not None:
        logits_CV = logits_CV + head.bias_V[None]
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
