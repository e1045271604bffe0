"""One update: equal for any split of the batch, refused when not finite, compiled once."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_step import ALL_AXES, BASE, ONE, SETTINGS, SMOOTH, batch_of, prepare, with_train

from codex_jax import config, trees
from codex_jax.models import build
from codex_jax.training import optimizer, schedule


pytestmark = pytest.mark.model

# They may differ by 0.05 % of learning rate x steps.
PARAMETERS_ATOL = 0.0005 * SETTINGS.optimizer.learning_rate * 4


class Run(NamedTuple):
    """What four updates left and reported."""

    parameters: dict[str, Any]
    losses: list[float]
    grad_norms: list[float]


def run(settings: config.Config, parallel: config.Parallel) -> Run:
    compiled = prepare(settings, parallel)
    state, outputs = compiled.initial(), []
    for index in range(4):
        state, output = compiled.update(state, batch_of(index), index)
        outputs.append(jax.device_get(output))
    parameters = jax.device_get(state.parameters)
    return Run(parameters, [float(one.loss) for one in outputs], [float(one.grad_norm) for one in outputs])


@pytest.fixture(scope="module")
def whole_batch() -> Run:
    """The updates to compare with: one device, no microbatches."""
    return run(SMOOTH, ONE)


def assert_same_updates(one: Run, other: Run) -> None:
    assert one.losses == pytest.approx(other.losses, rel=1e-5)
    assert one.grad_norms == pytest.approx(other.grad_norms, rel=1e-5)
    assert_trees_close(one.parameters, other.parameters, atol=PARAMETERS_ATOL)


def norm_of(tree: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree))))


def assert_trees_close(left: Any, right: Any, **tolerance: float) -> None:
    for (name, one), (_, other) in zip(trees.named_leaves(left), trees.named_leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), err_msg=name, **tolerance)


@pytest.mark.parametrize(
    "parallel",
    [
        config.Parallel(data=8),
        pytest.param(config.Parallel(data=1, fsdp=8), marks=pytest.mark.slow),
        ALL_AXES,
        pytest.param(config.Parallel(data=4, tensor=2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_updates_are_the_same_on_one_device_and_on_eight(parallel: config.Parallel, whole_batch: Run) -> None:
    assert_same_updates(run(SMOOTH, parallel), whole_batch)


@pytest.mark.parametrize(
    ("microbatch_size", "parallel"), [pytest.param(1, ONE, marks=pytest.mark.slow), (2, ONE), (4, ALL_AXES)], ids=str
)
def test_microbatches_equal_the_whole_batch_with_uneven_weights(
    microbatch_size: int, parallel: config.Parallel, whole_batch: Run
) -> None:
    assert_same_updates(run(with_train(SMOOTH, microbatch_size=microbatch_size), parallel), whole_batch)


def test_update_is_adamw_of_the_clipped_mean_gradient() -> None:
    """The whole update against optax's own clip and adamw on a gradient taken by the plain loss."""
    settings = dataclasses.replace(SMOOTH, optimizer=dataclasses.replace(SMOOTH.optimizer, clip_norm=0.05))
    compiled, batch = prepare(settings, ONE), batch_of(0)
    state = compiled.initial()
    before = jax.device_get(state.parameters)
    after, output = compiled.update(state, batch, 0)
    definition = build.define(settings.model)

    @jax.jit
    @jax.value_and_grad
    def plain(parameters: Any) -> jax.Array:
        bound = definition.bind(parameters)
        logits = bound(batch[0], batch[3], batch[4]) @ bound.head().T
        per_token = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch[1]))
        return jnp.sum(per_token * batch[2]) / jnp.sum(batch[2])

    loss, gradient = plain(before)
    options = settings.optimizer
    decay = {"kernel": True, "embedding": True, "bias": False, "scale": False}
    mask = jax.tree_util.tree_map_with_path(lambda path, _: decay[path[-1].key] and path[0].key != "positions", before)
    reference = optax.chain(
        optax.clip_by_global_norm(options.clip_norm),
        optax.adamw(
            options.learning_rate / 2, b1=0.9, b2=0.95, eps=options.epsilon, weight_decay=0.1, mask=mask
        ),  # half: the first of two steps of warm-up
    )
    updates, _ = jax.jit(reference.update)(gradient, jax.jit(reference.init)(before), before)
    assert float(output.loss) == pytest.approx(float(loss), rel=1e-5)
    assert float(output.grad_norm) == pytest.approx(norm_of(gradient), rel=1e-4)
    assert float(output.param_norm) == pytest.approx(norm_of(before), rel=1e-6)
    assert_trees_close(after.parameters, jax.tree.map(np.add, before, updates), atol=1e-6)


@pytest.mark.parametrize("poison", ["parameters", "weights"])
def test_state_is_untouched_when_a_step_is_not_finite(poison: str) -> None:
    compiled, batch = prepare(SMOOTH, ONE), list(batch_of(0))
    state = compiled.initial()
    if poison == "weights":
        batch[2] = np.full_like(batch[2], np.inf)
    else:
        broken = state.parameters["norm"]["bias"].at[0].set(jnp.nan)
        state = dataclasses.replace(
            state, parameters={**state.parameters, "norm": {**state.parameters["norm"], "bias": broken}}
        )
    before = jax.device_get((state.step, state.parameters, state.optimizer))
    state, output = compiled.update(state, tuple(batch), 0)
    assert not bool(output.finite)
    for (name, old), (_, new) in zip(
        trees.named_leaves(before), trees.named_leaves((state.step, state.parameters, state.optimizer)), strict=True
    ):
        np.testing.assert_array_equal(old, np.asarray(new), err_msg=name)


def test_step_behind_a_refused_one_is_not_applied() -> None:
    compiled, bad = prepare(SMOOTH, ONE), list(batch_of(0))
    bad[2] = np.full_like(bad[2], np.nan)
    state, _ = compiled.update(compiled.initial(), tuple(bad), 0)
    before = jax.device_get(state.parameters)
    state, output = compiled.update(state, batch_of(1), 1)
    assert bool(output.finite)
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, state.parameters))


def poisoned(value: float) -> tuple[np.ndarray[Any, Any], ...]:
    """The first batch, with weights that make its loss or its gradient overflow."""
    batch = list(batch_of(0))
    batch[2] = np.full_like(batch[2], value)
    return tuple(batch)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e33], ids=["nan loss", "infinite loss", "infinite gradient"])
def test_update_that_may_be_left_out_counts_and_changes_nothing_else(value: float) -> None:
    compiled = prepare(with_train(SMOOTH, max_nonfinite=3), ONE)
    state, _ = compiled.update(compiled.initial(), batch_of(1), 0)
    before = jax.device_get((state.parameters, state.optimizer))
    state, output = compiled.update(state, poisoned(value), 1)
    assert not bool(output.finite) and bool(jnp.isfinite(output.loss)) == (value == 1e33)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get((state.parameters, state.optimizer)))
    assert int(state.step) == 2


def test_rate_goes_by_the_step_when_updates_were_left_out() -> None:
    settings = with_train(SMOOTH, max_nonfinite=3)
    compiled = prepare(settings, ONE)
    state, _ = compiled.update(compiled.initial(), poisoned(np.nan), 0)
    state, output = compiled.update(state, batch_of(1), 1)
    assert float(output.learning_rate) == float(schedule.learning_rate(1, settings.optimizer, 20))
    # Twice the rate of step 0, by which an update without memory is twice as long.
    other = prepare(SMOOTH, ONE)
    begun = other.initial()
    start = jax.device_get(begun.parameters)
    first, _ = other.update(begun, batch_of(1), 0)
    longer, usual = (norm_of(jax.tree.map(np.subtract, one.parameters, start)) for one in (state, first))
    assert longer == pytest.approx(2 * usual, rel=1e-4)


def test_dropout_makes_a_step_a_function_of_state_and_index_alone(whole_batch: Run) -> None:
    settings = dataclasses.replace(SETTINGS, model=dataclasses.replace(SETTINGS.model, dropout=0.2))
    losses = run(settings, ONE).losses
    assert losses == run(settings, ONE).losses
    assert losses[0] != pytest.approx(whole_batch.losses[0], rel=1e-3)


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """The names of the functions that are compiled while the test runs."""
    names: list[str] = []

    def listen(event: str, seconds: float, **details: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(details.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_step_compiles_once(compilations: list[str]) -> None:
    compiled = prepare(SETTINGS, ALL_AXES)
    state, _ = compiled.update(compiled.initial(), batch_of(0), 0)
    assert compilations
    compilations.clear()
    for index in range(1, 4):
        state, _ = compiled.update(state, batch_of(index), index)
    assert compilations == []
    compiled.update(state, batch_of(4, length=8), 4)
    assert compilations, "another shape is compiled, so this test sees it when something is"


def test_batch_of_weight_zero_changes_nothing_but_decay() -> None:
    compiled, batch = prepare(SMOOTH, ONE), list(batch_of(0))
    batch[2] = np.zeros_like(batch[2])
    _, output = compiled.update(compiled.initial(), tuple(batch), 0)
    assert float(output.loss) == 0.0 and float(output.weight) == 0.0 and bool(output.finite)


def test_schedule_rises_then_falls_to_the_final_rate() -> None:
    options = dataclasses.replace(BASE.optimizer, learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    rate = [float(schedule.learning_rate(step, options, 110)) for step in range(111)]
    assert rate[0] == pytest.approx(0.1) and rate[9] == pytest.approx(1.0) and rate[10] == pytest.approx(1.0)
    assert rate[60] == pytest.approx(0.55) and rate[110] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rate[10:]))


def test_every_parameter_is_decayed_or_not_by_a_rule() -> None:
    with pytest.raises(config.ConfigError, match="unheard/of"):
        optimizer.make(BASE.optimizer, 10, {"unheard": {"of": jnp.zeros(3)}})
