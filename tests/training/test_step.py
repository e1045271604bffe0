"""One update: equal for any split of the batch, refused when not finite, compiled once."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from codex_jax import config, sharding, trees
from codex_jax.models import build
from codex_jax.training import optimizer, schedule
from codex_jax.training import state as states
from codex_jax.training import step as steps


pytestmark = pytest.mark.model

BASE = config.Config()
SETTINGS = dataclasses.replace(
    BASE,
    model=dataclasses.replace(
        BASE.model, vocab_size=96, context_length=16, num_layers=2, num_heads=2, width=32, compute_dtype="float32"
    ),
    data=dataclasses.replace(BASE.data, sequence_length=16),
    train=dataclasses.replace(BASE.train, num_steps=20, global_batch_size=8),
    optimizer=dataclasses.replace(BASE.optimizer, learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=2),
)
ONE = config.Parallel(data=1)


def with_train(settings: config.Config, **changes: Any) -> config.Config:
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **changes))


def mesh_of(parallel: config.Parallel) -> Mesh:
    """A mesh of as many of the eight virtual devices as the axes need."""
    shape = (parallel.data, parallel.fsdp, parallel.tensor)
    devices = np.array(jax.devices()[: int(np.prod(shape))]).reshape(shape)
    return Mesh(devices, ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)


def batch_of(index: int, *, rows: int = 8, length: int = 16) -> tuple[np.ndarray[Any, Any], ...]:
    rng = np.random.default_rng(index)
    tokens = rng.integers(0, 96, (rows, length + 1)).astype(np.int32)
    weights = rng.integers(0, 2, (rows, length)).astype(np.float32)
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    return tokens[:, :-1], tokens[:, 1:], weights, np.ones((rows, length), np.int32), positions


def prepare(settings: config.Config, mesh: Mesh) -> tuple[states.TrainState, Callable[..., Any]]:
    definition = build.define(settings.model)
    tx = optimizer.make(settings.optimizer, settings.train.num_steps, definition.abstract)
    make_state = functools.partial(states.initial, settings, tx)
    places = jax.tree.map(lambda leaf: leaf.sharding, sharding.abstract(make_state, mesh))
    state = jax.jit(make_state, out_shardings=places)()
    step = jax.jit(
        steps.make(settings, definition, tx), donate_argnums=0, out_shardings=(places, sharding.replicated(mesh))
    )
    return state, step


def run(
    settings: config.Config, parallel: config.Parallel, num_steps: int = 4
) -> tuple[states.TrainState, list[float]]:
    mesh = mesh_of(parallel)
    state, step = prepare(settings, mesh)
    losses = []
    for index in range(num_steps):
        state, output = step(state, sharding.place(batch_of(index), mesh), np.int32(index))
        losses.append(float(output.loss))
    return state, losses


def assert_trees_close(left: Any, right: Any, **tolerance: float) -> None:
    for (name, one), (_, other) in zip(trees.named_leaves(left), trees.named_leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), err_msg=name, **tolerance)


@pytest.mark.parametrize(
    "parallel",
    [
        config.Parallel(data=8),
        config.Parallel(data=1, fsdp=8),
        config.Parallel(data=2, fsdp=2, tensor=2),
        config.Parallel(data=4, tensor=2),
    ],
    ids=str,
)
def test_losses_are_the_same_on_one_device_and_on_eight(parallel: config.Parallel) -> None:
    state, losses = run(SETTINGS, ONE)
    other, other_losses = run(SETTINGS, parallel)
    assert other_losses == pytest.approx(losses, rel=1e-5)
    assert_trees_close(state.parameters, other.parameters, atol=2e-5)


@pytest.mark.parametrize("microbatch_size", [1, 2, 4])
def test_microbatches_equal_the_whole_batch_with_uneven_weights(microbatch_size: int) -> None:
    state, losses = run(SETTINGS, ONE)
    other, other_losses = run(with_train(SETTINGS, microbatch_size=microbatch_size), ONE)
    assert other_losses == pytest.approx(losses, rel=1e-5)
    assert_trees_close(state.parameters, other.parameters, atol=2e-5)


def test_microbatches_on_eight_devices_equal_one_device() -> None:
    settings = with_train(SETTINGS, global_batch_size=16, microbatch_size=8)
    mesh, lone = mesh_of(config.Parallel(data=8)), mesh_of(ONE)
    outcomes = []
    for where in (mesh, lone):
        state, step = prepare(settings, where)
        state, output = step(state, sharding.place(batch_of(0, rows=16), where), np.int32(0))
        outcomes.append((float(output.loss), float(output.grad_norm)))
    assert outcomes[0] == pytest.approx(outcomes[1], rel=1e-5)


def test_update_is_adamw_of_the_clipped_mean_gradient() -> None:
    """The whole update against optax's own clip and adamw on a gradient taken by the plain loss."""
    mesh = mesh_of(ONE)
    settings = dataclasses.replace(SETTINGS, optimizer=dataclasses.replace(SETTINGS.optimizer, clip_norm=0.05))
    state, step = prepare(settings, mesh)
    before = jax.tree.map(np.asarray, state.parameters)
    batch = batch_of(0)
    after, output = step(state, sharding.place(batch, mesh), np.int32(0))
    definition = build.define(settings.model)

    def plain(parameters: Any) -> jax.Array:
        bound = definition.bind(parameters)
        logits = bound(batch[0], batch[3], batch[4]) @ bound.head_VD().T
        per_token = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch[1]))
        return jnp.sum(per_token * batch[2]) / jnp.sum(batch[2])

    loss, gradient = jax.value_and_grad(plain)(before)
    options = settings.optimizer
    decay = {"kernel": True, "embedding": True, "bias": False, "scale": False}
    mask = jax.tree_util.tree_map_with_path(lambda path, _: decay[path[-1].key] and path[0].key != "positions", before)
    reference = optax.chain(
        optax.clip_by_global_norm(options.clip_norm),
        optax.adamw(
            options.learning_rate / 2, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.1, mask=mask
        ),  # half: the first of two steps of warm-up
    )
    updates, _ = reference.update(gradient, reference.init(before), before)
    assert float(output.loss) == pytest.approx(float(loss), rel=1e-5)
    assert float(output.grad_norm) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    assert_trees_close(after.parameters, optax.apply_updates(before, updates), atol=1e-5)


@pytest.mark.parametrize("poison", ["parameters", "weights"])
def test_state_is_untouched_when_a_step_is_not_finite(poison: str) -> None:
    mesh = mesh_of(ONE)
    state, step = prepare(SETTINGS, mesh)
    batch = list(batch_of(0))
    if poison == "weights":
        batch[2] = batch[2] * np.inf
    else:
        broken = state.parameters["norm"]["bias"].at[0].set(jnp.nan)
        state = dataclasses.replace(
            state, parameters={**state.parameters, "norm": {**state.parameters["norm"], "bias": broken}}
        )
    before = jax.tree.map(np.asarray, (state.step, state.parameters, state.optimizer))
    state, output = step(state, sharding.place(tuple(batch), mesh), np.int32(0))
    assert not bool(output.finite)
    for (name, old), (_, new) in zip(
        trees.named_leaves(before), trees.named_leaves((state.step, state.parameters, state.optimizer)), strict=True
    ):
        np.testing.assert_array_equal(old, np.asarray(new), err_msg=name)


def test_step_behind_a_refused_one_is_not_applied() -> None:
    mesh = mesh_of(ONE)
    state, step = prepare(SETTINGS, mesh)
    bad = list(batch_of(0))
    bad[2] = bad[2] * np.nan
    state, _ = step(state, sharding.place(tuple(bad), mesh), np.int32(0))
    before = jax.tree.map(np.asarray, state.parameters)
    state, output = step(state, sharding.place(batch_of(1), mesh), np.int32(1))
    assert bool(output.finite)
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, state.parameters))


def test_dropout_makes_a_step_a_function_of_state_and_index_alone() -> None:
    settings = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, dropout=0.2))
    _, losses = run(settings, ONE)
    _, again = run(settings, ONE)
    _, without = run(SETTINGS, ONE)
    assert losses == again
    assert losses[0] != without[0]


def test_step_compiles_once() -> None:
    mesh = mesh_of(config.Parallel(data=2, fsdp=2, tensor=2))
    state, step = prepare(SETTINGS, mesh)
    for index in range(5):
        state, _ = step(state, sharding.place(batch_of(index), mesh), np.int32(index))
    assert step._cache_size() == 1


def test_batch_of_weight_zero_changes_nothing_but_decay() -> None:
    mesh = mesh_of(ONE)
    state, step = prepare(SETTINGS, mesh)
    batch = list(batch_of(0))
    batch[2] = np.zeros_like(batch[2])
    state, output = step(state, sharding.place(tuple(batch), mesh), np.int32(0))
    assert float(output.loss) == 0.0 and float(output.weight) == 0.0 and bool(output.finite)


def test_schedule_rises_then_falls_to_the_final_rate() -> None:
    options = dataclasses.replace(BASE.optimizer, learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    rate = [float(schedule.learning_rate(step, options, 110)) for step in range(111)]
    assert rate[0] == pytest.approx(0.1) and rate[9] == pytest.approx(1.0) and rate[10] == pytest.approx(1.0)
    assert rate[60] == pytest.approx(0.55) and rate[110] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in zip(rate[10:], rate[11:], strict=False))


def test_every_parameter_is_decayed_or_not_by_a_rule() -> None:
    with pytest.raises(config.ConfigError, match="unheard/of"):
        optimizer.make(BASE.optimizer, 10, {"unheard": {"of": jnp.zeros(3)}})
