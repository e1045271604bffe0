"""Training on classes beside torch: the same loss, gradient and updates; the same for any split of the batch."""

import dataclasses
import json
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch_models

from codex_jax import config, evaluate, sharding, trees
from codex_jax.data.batch import Batch
from codex_jax.models import build
from codex_jax.models.build import Definition
from codex_jax.training import losses, program


pytestmark = pytest.mark.model

LABELS = ("a", "b", "c")
ROWS, LENGTH = 8, 16


def batch_of(index: int) -> Batch:
    """Rows of texts of any length, each of a class."""
    draw = np.random.default_rng(index)
    tokens_BL = draw.integers(1, 99, (ROWS, LENGTH)).astype(np.int32)
    mask_BL = (np.arange(LENGTH) < draw.integers(3, LENGTH + 1, (ROWS, 1))).astype(np.int32)
    targets_BL, weights_BL = np.zeros_like(tokens_BL), np.zeros(tokens_BL.shape, np.float32)
    targets_BL[:, 0], weights_BL[:, 0] = draw.integers(0, len(LABELS), ROWS), 1.0
    positions_BL = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    return Batch(tokens_BL * mask_BL, targets_BL, weights_BL, mask_BL, positions_BL)


class Pair(NamedTuple):
    """The same model in torch and here."""

    torch: Any
    definition: Definition
    parameters: dict[str, Any]
    settings: config.Config


@pytest.fixture
def pair(torch_oracle: ModuleType) -> Pair:
    made = torch_models.network("bert", "BertForSequenceClassification", num_labels=len(LABELS))
    settings = settings_of(torch_models.settings_of(made))
    definition = build.define(settings.model)
    return Pair(made, definition, torch_models.parameters_of(made, definition), settings)


def settings_of(model: config.Model, **train: Any) -> config.Config:
    base = config.Config()
    rates = {"learning_rate": 1e-3, "final_learning_rate": 1e-3, "epsilon": 1e-4, "beta2": 0.999, "weight_decay": 0.0}
    return dataclasses.replace(
        base,
        model=model,
        data=dataclasses.replace(base.data, objective="classes", labels=LABELS, sequence_length=LENGTH),
        train=dataclasses.replace(base.train, num_steps=20, global_batch_size=ROWS, **train),
        optimizer=dataclasses.replace(base.optimizer, **rates),
    )


def torch_loss(made: Any, batch: Batch, torch: ModuleType) -> Any:
    tokens_BL, labels_B, mask_BL = map(torch.from_numpy, (batch.tokens_BL, batch.targets_BL[:, 0], batch.segments_BL))
    return made(tokens_BL.long(), attention_mask=mask_BL.long(), labels=labels_B.long())


def sums_of(pair: Pair, batch: Batch) -> losses.Sums:
    run = jax.jit(lambda parameters, batch: losses.of_batch(pair.definition, parameters, batch, None, chunk=64))
    return run(pair.parameters, batch)  # type: ignore[no-any-return]


def test_loss_and_accuracy_equal_torch(torch_oracle: ModuleType, pair: Pair) -> None:
    batch = batch_of(0)
    found = sums_of(pair, batch)
    with torch_oracle.no_grad():
        expected = torch_loss(pair.torch, batch, torch_oracle)
    assert float(found.weight) == ROWS
    assert float(found.loss) / ROWS == pytest.approx(float(expected.loss), rel=1e-5)
    assert float(found.correct) == int((expected.logits.argmax(-1).numpy() == batch.targets_BL[:, 0]).sum())


def test_rows_of_padding_change_nothing(pair: Pair) -> None:
    batch = batch_of(0)
    empty = Batch(*(np.concatenate([array, np.zeros_like(array[:3])]) for array in batch))
    found, expected = (sums_of(pair, one) for one in (empty, batch))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradient_equals_torch(torch_oracle: ModuleType, pair: Pair) -> None:
    batch = batch_of(1)

    def mean(parameters: dict[str, Any]) -> jax.Array:
        return losses.of_batch(pair.definition, parameters, batch, None, chunk=64).loss / ROWS

    slopes = dict(trees.named_leaves(jax.jit(jax.grad(mean))(pair.parameters)))
    torch_loss(pair.torch, batch, torch_oracle).loss.backward()
    for parameter in pair.torch.parameters():
        parameter.data = torch_oracle.zeros_like(parameter) if parameter.grad is None else parameter.grad
    expected = dict(trees.named_leaves(torch_models.parameters_of(pair.torch, pair.definition)))
    assert sorted(slopes) == sorted(expected) and np.abs(expected["classifier/kernel"]).max() > 1e-3
    for name, slope in slopes.items():
        limit = 1e-4 * np.abs(expected[name]).max() + 1e-7
        np.testing.assert_allclose(slope, expected[name], atol=limit, err_msg=name)


def test_updates_equal_those_of_torch(torch_oracle: ModuleType, pair: Pair) -> None:
    mesh = sharding.make_mesh(config.Parallel())
    made = program.make(pair.settings, mesh)
    state = made.initial(jax.tree.map(jax.numpy.copy, pair.parameters))
    adam = torch_oracle.optim.AdamW(pair.torch.parameters(), 1e-3, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.0)
    for index in range(4):
        state, output = made.update(state, {}, sharding.place(batch_of(index), mesh), np.int32(index))
        adam.zero_grad()
        found = torch_loss(pair.torch, batch_of(index), torch_oracle)
        found.loss.backward()
        torch_oracle.nn.utils.clip_grad_norm_(pair.torch.parameters(), 1.0)
        adam.step()
        assert float(output.loss) == pytest.approx(found.loss.item(), rel=1e-4)
        hits_B = found.logits.argmax(-1).numpy() == batch_of(index).targets_BL[:, 0]
        assert float(output.accuracy) == pytest.approx(hits_B.mean())
        assert float(output.weight) == ROWS
    expected = trees.named_leaves(torch_models.parameters_of(pair.torch, pair.definition))
    for (name, one), (_, other) in zip(trees.named_leaves(state.parameters), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=4e-5, err_msg=name)


MODEL = config.Model(
    architecture=json.dumps(
        {
            "model_type": "bert",
            "architectures": ["BertForSequenceClassification"],
            "id2label": dict(enumerate(LABELS)),
            **torch_models.CONFIGS["bert"][1],
            "vocab_size": 100,  # which two devices can share
        }
    ),
    compute_dtype="float32",
)


def losses_of(parallel: config.Parallel, num_devices: int, microbatch: int = 0) -> list[tuple[float, float, float]]:
    """Loss, accuracy and norm of three updates."""
    devices = np.array(jax.devices()[:num_devices]).reshape(parallel.data, parallel.fsdp, parallel.tensor)
    mesh = jax.sharding.Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    made = program.make(settings_of(MODEL, microbatch_size=microbatch), mesh)
    state, found = made.initial({}), []
    for index in range(3):
        state, output = made.update(state, {}, sharding.place(batch_of(index), mesh), np.int32(index))
        found.append((float(output.loss), float(output.accuracy), float(output.grad_norm)))
    return found


@pytest.fixture(scope="module")
def whole() -> list[tuple[float, float, float]]:
    return losses_of(config.Parallel(data=1), 1)


@pytest.mark.parametrize("microbatch", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_microbatches_are_the_whole_batch(microbatch: int, whole: list[tuple[float, float, float]]) -> None:
    np.testing.assert_allclose(losses_of(config.Parallel(data=1), 1, microbatch), whole, rtol=2e-5)


@pytest.mark.parametrize(
    "parallel",
    [pytest.param(config.Parallel(data=8), marks=pytest.mark.slow), config.Parallel(data=2, fsdp=2, tensor=2)],
    ids=str,
)
def test_eight_devices_are_one(parallel: config.Parallel, whole: list[tuple[float, float, float]]) -> None:
    np.testing.assert_allclose(losses_of(parallel, 8), whole, rtol=2e-5)


def test_evaluation_counts_texts(pair: Pair) -> None:
    mesh = sharding.make_mesh(config.Parallel())
    batches = [batch_of(index) for index in range(3)]
    batches[2].weights_BL[5:] = 0.0
    sums = [sums_of(pair, batch) for batch in batches]
    found = evaluate.once(pair.settings, pair.definition, mesh, pair.parameters, batches)
    loss, correct, weight = (sum(float(value) for value in values) for values in zip(*sums, strict=True))
    assert weight == 21
    assert found == pytest.approx({"loss": loss / 21, "accuracy": correct / 21, "texts": 21.0}, rel=1e-4)
