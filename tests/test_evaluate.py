"""Evaluation: token-weighted over all batches, and never larger on the device than a training step."""

import math
import re

import jax
import numpy as np
import pytest
from small_step import ONE, SETTINGS, batch_of, mesh_of, prepare, with_train

from codex_jax import config, evaluate
from codex_jax.data.batch import Batch
from codex_jax.errors import AssetError


pytestmark = pytest.mark.model

MESH = mesh_of(ONE)


def rows_of(seed: int, *, padded_rows: int = 0) -> Batch:
    made = Batch(*batch_of(seed))
    made.weights_BL[8 - padded_rows :] = 0
    return made


def test_microbatches_change_nothing_and_padding_counts_for_nothing() -> None:
    made = prepare(SETTINGS, ONE).program
    parameters = made.initial({}).parameters
    batches = [rows_of(0), rows_of(1, padded_rows=6)]
    whole = evaluate.make(SETTINGS, made.definition, MESH, batches)(parameters)
    small = with_train(SETTINGS, microbatch_size=2)
    assert evaluate.make(small, made.definition, MESH, batches)(parameters) == pytest.approx(whole, rel=1e-6)
    assert whole["perplexity"] == pytest.approx(math.exp(whole["loss"]))
    told = with_train(SETTINGS, global_batch_size=2)
    without = [Batch(*(array[:2] for array in batches[1]))]
    padded = evaluate.make(SETTINGS, made.definition, MESH, batches[1:])(parameters)
    assert evaluate.make(told, made.definition, MESH, without)(parameters) == pytest.approx(padded, rel=1e-6)
    assert 0 <= whole["token_accuracy"] <= 1


def test_once_reads_every_batch_and_says_how_many_tokens() -> None:
    made = prepare(SETTINGS, ONE).program
    parameters = made.initial({}).parameters
    batches = [rows_of(0), rows_of(1, padded_rows=6), rows_of(2)]
    found = evaluate.once(SETTINGS, made.definition, MESH, parameters, iter(batches))
    assert found.pop("tokens") == sum(batch.weights_BL.sum() for batch in batches)
    assert found == pytest.approx(evaluate.make(SETTINGS, made.definition, MESH, batches)(parameters), rel=1e-6)
    with pytest.raises(AssetError, match="no token that can be predicted"):
        evaluate.once(SETTINGS, made.definition, MESH, parameters, [rows_of(0, padded_rows=8)])


def test_parts_are_as_large_as_a_microbatch() -> None:
    parts = evaluate.cut(rows_of(0), 2)
    assert [part.tokens_BL.shape for part in parts] == [(2, 16)] * 4
    np.testing.assert_array_equal(np.concatenate([part.weights_BL for part in parts]), rows_of(0).weights_BL)


def test_unigram_entropy_is_that_of_the_weighted_targets() -> None:
    batch = rows_of(0)
    targets = batch.targets_BL * 0 + np.arange(16, dtype=np.int32) % 4
    even = batch._replace(targets_BL=targets, weights_BL=np.ones_like(batch.weights_BL))
    assert evaluate.unigram_entropy([even]) == pytest.approx(math.log(4))
    half = even._replace(weights_BL=(targets < 2).astype(np.float32))
    assert evaluate.unigram_entropy([half]) == pytest.approx(math.log(2))


def test_every_device_computes_its_own_part_of_the_head() -> None:
    """Logits of a chunk are split over the devices that share the batch: none of them gathers the others' tokens."""
    prepared = prepare(with_train(SETTINGS, loss_chunk=8), config.Parallel(data=8))
    mesh, made = prepared.mesh, prepared.program
    shapes = tuple(
        jax.ShapeDtypeStruct((8, 16), kind, sharding=jax.NamedSharding(mesh, jax.P(("data", "fsdp"))))
        for kind in (np.int32, np.int32, np.float32, np.int32, np.int32)
    )
    compiled = made.update.lower(made.target, made.frozen, shapes, np.int32(0)).compile().as_text()  # type: ignore[attr-defined]
    assert "all-reduce" in compiled  # the gradient: it is the sharded program
    assert not re.findall(r"all-gather[^\n]*", compiled)
