"""How good a model is on held-out data: token-weighted loss, perplexity and accuracy of the next token."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.data import packing
from codex_jax.data.batch import Batch
from codex_jax.models import build
from codex_jax.training import losses


Evaluate = Callable[[dict[str, Any]], dict[str, float]]


def make(settings: config.Config, definition: build.Definition, mesh: Mesh, batches: Sequence[Batch]) -> Evaluate:
    """Return `evaluate(parameters) -> {loss, perplexity, token_accuracy}` on these batches; compiled at the first call.

    The batches are placed on the devices once, in parts as large as a microbatch: what training has memory for,
    evaluation has. Sums over all parts are divided once by the number of weighted tokens, so that rows of padding
    change nothing.
    """
    rows = settings.train.microbatch_size or settings.train.global_batch_size
    own = packing.own_rows(rows, sharding.part_of_batch(mesh))
    parts = [
        sharding.place(tuple(array[own] for array in part), mesh) for batch in batches for part in cut(batch, rows)
    ]
    chunk = sharding.batch_ways(mesh) * settings.train.loss_chunk
    # Whole on every device: of several processes each reads the sums over all.
    sums = jax.jit(
        functools.partial(losses.of_batch, definition, key=None, chunk=chunk), out_shardings=sharding.replicated(mesh)
    )

    def evaluate(parameters: dict[str, Any]) -> dict[str, float]:
        # Dispatch all, then read: the devices are not left waiting between parts.
        read = jax.device_get([sums(parameters, part) for part in parts])
        loss, correct, weight = np.sum(np.array(read, np.float64), axis=0).tolist()
        mean = loss / weight
        return {
            "loss": mean,
            "perplexity": math.exp(mean) if mean < 700 else math.inf,
            "token_accuracy": correct / weight,
        }

    return evaluate


def unigram_entropy(batches: Sequence[Batch]) -> float:
    """Return the entropy of the targets' own distribution, in nats a token: no model without context can do better."""
    kept = np.concatenate([batch.targets_BL[batch.weights_BL > 0] for batch in batches])
    share = np.unique(kept, return_counts=True)[1] / kept.size
    return float(-np.sum(share * np.log(share)))


def cut(batch: Batch, rows: int) -> list[Batch]:
    """Return the batch in parts of `rows` rows, which divide it."""
    return [Batch(*(array[at : at + rows] for array in batch)) for at in range(0, len(batch.tokens_BL), rows)]
