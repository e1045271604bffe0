"""How good a model is on held-out data: token-weighted loss, perplexity and accuracy of the next token."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.data.batch import Batch
from codex_jax.models import build
from codex_jax.training import losses


Evaluate = Callable[[dict[str, Any], Iterable[Batch]], dict[str, float]]


def make(settings: config.Config, definition: build.Definition, mesh: Mesh) -> Evaluate:
    """Return `evaluate(parameters, batches) -> {loss, perplexity, token_accuracy}`; compiled once, at the first call.

    Sums over all batches are divided once by the number of weighted tokens, so rows of padding change nothing.
    """

    @jax.jit
    def batch_sums(parameters: dict[str, Any], batch: tuple[jax.Array, ...]) -> losses.Sums:
        tokens_BL, targets_BL, weights_BL, segments_BL, positions_BL = batch
        model = definition.bind(parameters)
        hidden_BLD = model(tokens_BL, segments_BL, positions_BL)
        return losses.next_token(
            hidden_BLD,
            model.head(),
            targets_BL,
            weights_BL,
            chunk=settings.train.loss_chunk,
            dtype=model.shape.dtype,
        )

    def evaluate(parameters: dict[str, Any], batches: Iterable[Batch]) -> dict[str, float]:
        # Dispatch all, then read: the devices are not left waiting between batches.
        parts = jax.device_get([batch_sums(parameters, sharding.place(batch, mesh)) for batch in batches])
        loss, correct, weight = np.sum(np.array(parts, np.float64), axis=0).tolist()
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
