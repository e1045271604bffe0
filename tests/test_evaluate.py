"""Evaluation: token-weighted over all batches, and never larger on the device than a training step."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from codex_jax import config, evaluate
from codex_jax.data.batch import Batch
from codex_jax.errors import AssetError
from codex_jax.training import program


pytestmark = pytest.mark.model

BASE = config.Config()
SETTINGS = dataclasses.replace(
    BASE,
    model=dataclasses.replace(
        BASE.model, vocab_size=64, context_length=16, num_layers=1, num_heads=2, width=16, compute_dtype="float32"
    ),
    data=dataclasses.replace(BASE.data, sequence_length=16),
    train=dataclasses.replace(BASE.train, global_batch_size=8),
)
AUTO = (jax.sharding.AxisType.Auto,) * 3
MESH = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1], axis_types=AUTO)


def batch_of(seed: int, *, padded_rows: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 64, (8, 17)).astype(np.int32)
    weights = rng.integers(0, 2, (8, 16)).astype(np.float32)
    weights[8 - padded_rows :] = 0
    positions = np.tile(np.arange(16, dtype=np.int32), (8, 1))
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, np.ones((8, 16), np.int32), positions)


def test_microbatches_change_nothing_and_padding_counts_for_nothing() -> None:
    made = program.make(SETTINGS, MESH)
    parameters = made.initial({}).parameters
    batches = [batch_of(0), batch_of(1, padded_rows=6)]
    whole = evaluate.make(SETTINGS, made.definition, MESH, batches)(parameters)
    small = dataclasses.replace(SETTINGS, train=dataclasses.replace(SETTINGS.train, microbatch_size=2))
    assert evaluate.make(small, made.definition, MESH, batches)(parameters) == pytest.approx(whole, rel=1e-6)
    assert whole["perplexity"] == pytest.approx(math.exp(whole["loss"]))
    told = dataclasses.replace(SETTINGS, train=dataclasses.replace(SETTINGS.train, global_batch_size=2))
    without = [Batch(*(array[:2] for array in batches[1]))]
    padded = evaluate.make(SETTINGS, made.definition, MESH, batches[1:])(parameters)
    assert evaluate.make(told, made.definition, MESH, without)(parameters) == pytest.approx(padded, rel=1e-6)
    assert 0 <= whole["token_accuracy"] <= 1


def test_once_reads_every_batch_and_says_how_many_tokens() -> None:
    made = program.make(SETTINGS, MESH)
    parameters = made.initial({}).parameters
    batches = [batch_of(0), batch_of(1, padded_rows=6), batch_of(2)]
    found = evaluate.once(SETTINGS, made.definition, MESH, parameters, iter(batches))
    assert found.pop("tokens") == sum(batch.weights_BL.sum() for batch in batches)
    assert found == pytest.approx(evaluate.make(SETTINGS, made.definition, MESH, batches)(parameters), rel=1e-6)
    with pytest.raises(AssetError, match="no token that can be predicted"):
        evaluate.once(SETTINGS, made.definition, MESH, parameters, [batch_of(0, padded_rows=8)])


def test_parts_are_as_large_as_a_microbatch() -> None:
    parts = evaluate.cut(batch_of(0), 2)
    assert [part.tokens_BL.shape for part in parts] == [(2, 16)] * 4
    np.testing.assert_array_equal(np.concatenate([part.weights_BL for part in parts]), batch_of(0).weights_BL)


def test_unigram_entropy_is_that_of_the_weighted_targets() -> None:
    batch = batch_of(0)
    targets = batch.targets_BL * 0 + np.arange(16, dtype=np.int32) % 4
    even = batch._replace(targets_BL=targets, weights_BL=np.ones_like(batch.weights_BL))
    assert evaluate.unigram_entropy([even]) == pytest.approx(math.log(4))
    half = even._replace(weights_BL=(targets < 2).astype(np.float32))
    assert evaluate.unigram_entropy([half]) == pytest.approx(math.log(2))


def test_every_device_computes_its_own_part_of_the_head() -> None:
    """Logits of a chunk are split over the devices that share the batch: none of them gathers the others' tokens."""
    mesh = jax.make_mesh((8, 1, 1), ("data", "fsdp", "tensor"), axis_types=AUTO)
    chunked = dataclasses.replace(SETTINGS, train=dataclasses.replace(SETTINGS.train, loss_chunk=8))
    made = program.make(chunked, mesh)
    batch = tuple(
        jax.ShapeDtypeStruct((8, 16), kind, sharding=jax.NamedSharding(mesh, jax.P(("data", "fsdp"))))
        for kind in (np.int32, np.int32, np.float32, np.int32, np.int32)
    )
    compiled = made.update.lower(made.target, made.frozen, batch, np.int32(0)).compile().as_text()  # type: ignore[attr-defined]
    assert "all-reduce" in compiled  # the gradient: it is the sharded program
    assert not re.findall(r"all-gather[^\n]*", compiled)
