"""With parallel.deterministic_reduction an update is the same bits on any number of devices."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from codex_jax import config, evaluate, sharding, trees
from codex_jax.data.batch import Batch
from codex_jax.errors import ConfigError
from codex_jax.tokenizers import training
from codex_jax.training import masking, program, reduction


pytestmark = [pytest.mark.model, pytest.mark.usefixtures("optimized")]

BASE = config.Config()
SHARDS = config.Parallel(deterministic_reduction=8)
SETTINGS = dataclasses.replace(
    BASE,
    model=dataclasses.replace(
        BASE.model,
        vocab_size=96,
        context_length=32,
        num_layers=2,
        num_heads=2,
        width=32,
        dropout=0.2,
        compute_dtype="float32",
    ),
    data=dataclasses.replace(BASE.data, sequence_length=32),
    train=dataclasses.replace(BASE.train, num_steps=20, global_batch_size=16, loss_chunk=24),
    optimizer=dataclasses.replace(BASE.optimizer, learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=2),
    parallel=SHARDS,
)
IN_PARTS = dataclasses.replace(SETTINGS, train=dataclasses.replace(SETTINGS.train, microbatch_size=8))
ADAPTED = dataclasses.replace(
    SETTINGS, adapter=dataclasses.replace(SETTINGS.adapter, rank=4, dropout=0.1, targets=("qkv", "mlp/"))
)
# Masks are those of a shard: they have no like without an order.
WITHOUT_DROPOUT = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, dropout=0.0))
UNORDERED = dataclasses.replace(WITHOUT_DROPOUT, parallel=BASE.parallel)
ENCODER = dataclasses.replace(
    SETTINGS,
    model=dataclasses.replace(SETTINGS.model, name="all-minilm-l6-v2", ending="hidden"),
    data=dataclasses.replace(SETTINGS.data, objective="masked"),
)


def mesh_of(devices: int) -> Mesh:
    chosen = np.array(jax.devices()[:devices]).reshape(devices, 1, 1)
    return Mesh(chosen, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)


def batch_of(index: int) -> Batch:
    rows, length = 16, 32
    rng = np.random.default_rng(index)
    tokens = rng.integers(0, 96, (rows, length + 1)).astype(np.int32)
    # Not only 0 and 1: sums of those are exact in any order.
    weights = rng.random((rows, length), np.float32)
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, np.ones((rows, length), np.int32), positions)


def prepare_of(settings: config.Config) -> masking.Prepare:
    if settings.data.objective == "causal":
        return masking.as_is
    words = "the model learns to guess tokens that are hidden " * 9
    return masking.make(settings, training.train([words], 60, kind="wordpiece"))


@functools.cache
def run(settings: config.Config, devices: int) -> dict[str, bytes]:
    """Every bit that three updates and an evaluation leave and report, by name."""
    mesh, prepare = mesh_of(devices), prepare_of(settings)
    made = program.make(settings, mesh, prepare)
    places = jax.tree.map(lambda leaf: leaf.sharding, made.frozen)
    frozen = jax.jit(lambda: jax.tree.map(_filled, made.frozen), out_shardings=places)()
    state, outputs = made.initial({}), []
    for index in range(3):
        state, output = made.update(state, frozen, sharding.place(batch_of(index), mesh), np.int32(index))
        outputs.append(output)
    measure = evaluate.make(settings, made.definition, mesh, [batch_of(9), batch_of(10)], prepare)
    metrics = measure(trees.joined(state.parameters, frozen))
    left = {"parameters": state.parameters, "optimizer": state.optimizer, "outputs": outputs}
    bits = {name: np.asarray(leaf).tobytes() for name, leaf in trees.named_leaves(left)}
    return {**bits, **{name: np.float64(value).tobytes() for name, value in metrics.items()}}


def first_outputs(settings: config.Config, devices: int) -> list[float]:
    """What one update reports; the loss comes first."""
    mesh = mesh_of(devices)
    made = program.make(settings, mesh)
    _, output = made.update(made.initial({}), {}, sharding.place(batch_of(0), mesh), np.int32(0))
    return [float(one) for one in output]


def _filled(leaf: Any) -> jax.Array:
    return 0.02 * jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype)


@pytest.mark.parametrize(
    "devices", [pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow), 8]
)
def test_updates_with_dropout_are_the_same_bits_on_any_devices(devices: int) -> None:
    assert run(IN_PARTS, devices) == run(IN_PARTS, 1)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
@pytest.mark.parametrize("settings", [SETTINGS, ADAPTED, ENCODER], ids=["whole batch", "adapters", "hidden tokens"])
def test_updates_of_all_kinds_are_the_same_bits_on_any_devices(settings: config.Config, devices: int) -> None:
    assert run(settings, devices) == run(settings, 1)


@pytest.mark.parametrize("devices", [pytest.param(4, marks=pytest.mark.slow), 8])
def test_evaluations_are_the_same_bits_on_any_devices(devices: int) -> None:
    """Of a vocabulary and a model in which a shard's sums are rounded otherwise when they are fused with their input.

    On 8 devices a shard is its device's only one. Without the barrier before the work, or with jax 0.10 where its
    compiler drops it too early, some of these parts have other bits there.
    """
    sizes = {"vocab_size": 320, "context_length": 64, "dropout": 0.0}
    settings = dataclasses.replace(IN_PARTS, model=dataclasses.replace(IN_PARTS.model, **sizes))
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, loss_chunk=1024))

    def measured(mesh: Mesh) -> dict[str, float]:
        made = program.make(settings, mesh)
        parameters = jax.tree.map(lambda leaf: 10 * _filled(leaf), made.target.parameters)
        parameters = jax.device_put(parameters, sharding.replicated(mesh))
        batches = [batch_of(100 + index) for index in range(12)]
        return evaluate.once(settings, made.definition, mesh, parameters, batches)

    assert measured(mesh_of(devices)) == measured(mesh_of(1))


@pytest.mark.slow
def test_sums_are_those_without_shards_but_for_rounding() -> None:
    """No row is left out or counted twice."""
    assert first_outputs(WITHOUT_DROPOUT, 2) == pytest.approx(first_outputs(UNORDERED, 2), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_a_gpu_finds_the_same_bits_twice_and_what_it_finds_without_an_order(dtype: str, within: float) -> None:
    model = dataclasses.replace(WITHOUT_DROPOUT.model, compute_dtype=dtype)
    ordered, unordered = (dataclasses.replace(one, model=model) for one in (WITHOUT_DROPOUT, UNORDERED))
    assert run.__wrapped__(ordered, 1) == run.__wrapped__(ordered, 1)
    assert first_outputs(ordered, 1)[0] == pytest.approx(first_outputs(unordered, 1)[0], rel=within)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_shards_are_added_as_the_leaves_of_one_tree(devices: int) -> None:
    """The order itself, on numbers for which every other one gives another sum; and every shard draws its own."""
    shares = np.random.default_rng(4).standard_normal(8).astype(np.float32)

    def work(given: Any, batch: tuple[jax.Array, ...], keys: reduction.Keys) -> Any:
        assert keys[0] is not None
        return given * jnp.sum(batch[0]), jax.random.uniform(keys[0], (1,))

    sums = jax.jit(reduction.in_one_order(SHARDS, mesh_of(devices), work))
    key = jax.random.key(1)
    total, drawn = jax.device_get(sums(np.float32(1.0), (shares,), (key,)))
    level = shares
    while len(level) > 1:
        level = level[::2] + level[1::2]
    assert total == level[0] and total != functools.reduce(np.add, shares)
    each = np.array([jax.random.uniform(jax.random.fold_in(key, shard)) for shard in range(8)])
    assert drawn[0] == pytest.approx(np.sum(each), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": {"deterministic_reduction": 6}}, "deterministic_reduction=6 is no power of two"),
        ({"parallel": {"deterministic_reduction": 8, "fsdp": 2}}, r"parallel\.fsdp=2"),
        ({"parallel": {"deterministic_reduction": 8, "tensor": 2}}, r"parallel\.tensor=2"),
        (
            {"parallel": {"deterministic_reduction": 8}, "train": {"global_batch_size": 16, "microbatch_size": 4}},
            r"deterministic_reduction=8 does not divide the rows of one pass: train\.microbatch_size=4",
        ),
        ({"parallel": {"deterministic_reduction": 16}}, r"train\.global_batch_size=8"),
    ],
)
def test_what_shards_cannot_be_is_refused(changes: dict[str, dict[str, int]], said: str) -> None:
    nested = config.default().to_dict()
    for section, values in changes.items():
        nested[section].update(values)
    with pytest.raises(ConfigError, match=said):
        config.resolve(nested)
