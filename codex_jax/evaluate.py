"""How good a model is on held-out data: loss, perplexity and accuracy of what it is to say, by token or text."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.data import packing
from codex_jax.data.batch import Batch
from codex_jax.errors import AssetError
from codex_jax.models import build
from codex_jax.training import losses, masking, reduction


class Evaluate(Protocol):
    """What `make` returns."""

    def __call__(self, parameters: dict[str, Any], between: Callable[[], None] = ...) -> dict[str, float]:
        """Return the metrics."""


# Not the run's seed: every run and every evaluation guesses the same tokens.
_FIXED_SEED = 0


def make(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    batches: Sequence[Batch],
    prepare: masking.Prepare = masking.as_is,
) -> Evaluate:
    """Return `evaluate(parameters, between) -> {loss, perplexity, token_accuracy}` on these batches.

    Of classes it is {loss, accuracy}. Compiled at the first call. `between` is called before each part, and may raise
    to stop.

    The batches are placed on the devices once, in parts as large as a microbatch: what training has memory for,
    evaluation has. Sums over all parts are divided once by the number of weighted tokens, so that rows of padding
    change nothing.
    """
    place, sums = _placing(settings, mesh), _summing(settings, definition, mesh, prepare)
    parts = [part for batch in batches for part in place(batch)]

    def evaluate(parameters: dict[str, Any], between: Callable[[], None] = lambda: None) -> dict[str, float]:
        dispatched: list[losses.Sums] = []
        for number, part in enumerate(parts):
            between()
            dispatched.append(sums(parameters, part, np.int32(number)))
            # The one before is waited for while this one is at work: the devices never wait.
            jax.block_until_ready(dispatched[-2:-1])
        read = jax.device_get(dispatched)
        return _metrics(settings.data.objective, *np.sum(np.array(read, np.float64), axis=0).tolist())

    return evaluate


def once(
    settings: config.Config,
    definition: build.Definition,
    mesh: Mesh,
    parameters: dict[str, Any],
    batches: Iterable[Batch],
    prepare: masking.Prepare = masking.as_is,
) -> dict[str, float]:
    """Return what `make` does, and `tokens` (of classes `texts`), for batches read as they come; none is kept."""
    place, sums = _placing(settings, mesh), _summing(settings, definition, mesh, prepare)
    total_3, numbers = np.zeros(3), itertools.count()
    for batch in batches:
        read = jax.device_get([sums(parameters, part, np.int32(next(numbers))) for part in place(batch)])
        total_3 += np.sum(np.array(read, np.float64), axis=0)
    if not total_3[2]:
        raise AssetError("the documents of this split have no token that can be predicted: each is too short")
    objective = settings.data.objective
    return {**_metrics(objective, *total_3.tolist()), losses.unit(objective).plural: float(total_3[2])}


def _placing(settings: config.Config, mesh: Mesh) -> Callable[[Batch], list[tuple[jax.Array, ...]]]:
    """Return what puts a batch on the devices, in parts as large as a microbatch."""
    rows = settings.train.microbatch_size or settings.train.global_batch_size
    own = packing.own_rows(rows, sharding.part_of_batch(mesh))
    return lambda batch: [sharding.place(tuple(array[own] for array in part), mesh) for part in cut(batch, rows)]


def _summing(
    settings: config.Config, definition: build.Definition, mesh: Mesh, prepare: masking.Prepare
) -> Callable[..., losses.Sums]:
    """Return `sums(parameters, part, number)`, by which number a part is prepared."""
    chunk = reduction.chunk(settings, mesh)

    def measure(parameters: dict[str, Any], batch: tuple[jax.Array, ...], keys: reduction.Keys) -> losses.Sums:
        (key,) = keys
        assert key is not None
        return losses.of_batch(definition, parameters, prepare(batch, key), None, chunk=chunk)

    measure_all = reduction.in_one_order(settings.parallel, mesh, measure)

    # Whole on every device: of several processes each reads the sums over all.
    @functools.partial(
        jax.jit,
        out_shardings=sharding.replicated(mesh),
        compiler_options=reduction.compiler_options(settings.parallel, mesh),
    )
    def sums(parameters: dict[str, Any], part: tuple[jax.Array, ...], number: np.integer[Any]) -> losses.Sums:
        found: losses.Sums = measure_all(parameters, part, (jax.random.fold_in(jax.random.key(_FIXED_SEED), number),))
        return found

    return sums


def _metrics(objective: str, loss: float, correct: float, weight: float) -> dict[str, float]:
    mean = loss / weight
    perplexity = {} if objective == "classes" else {"perplexity": math.exp(mean) if mean < 700 else math.inf}
    return {"loss": mean, **perplexity, losses.unit(objective).accuracy: correct / weight}


def unigram_entropy(batches: Sequence[Batch]) -> float:
    """Return the entropy of the targets' own distribution, in nats: no model that does not read can do better."""
    kept = np.concatenate([batch.targets_BL[batch.weights_BL > 0] for batch in batches])
    share = np.unique(kept, return_counts=True)[1] / kept.size
    return float(-np.sum(share * np.log(share)))


def cut(batch: Batch, rows: int) -> list[Batch]:
    """Return the batch in parts of `rows` rows, which divide it."""
    return [Batch(*(array[at : at + rows] for array in batch)) for at in range(0, len(batch.tokens_BL), rows)]
