"""One update: a pure function of the state and a batch."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from codex_jax import config, trees
from codex_jax.models import build
from codex_jax.training import losses, masking, reduction, schedule, subtree
from codex_jax.training import optimizer as optimizers
from codex_jax.training.state import TrainState


class Output(NamedTuple):
    """What a step reports, still on the device."""

    loss: jax.Array
    """mean over the weighted tokens or rows of the batch, in nats"""
    accuracy: jax.Array
    """share of them whose likeliest prediction was right"""
    grad_norm: jax.Array
    """global norm of the gradient before clipping"""
    param_norm: jax.Array
    """global norm of the trained parameters that the gradient was taken at"""
    learning_rate: jax.Array
    weight: jax.Array
    """weighted tokens, or rows, of the batch"""
    finite: jax.Array
    """False: loss or gradient was not finite, and parameters and moments are as before"""


Step = Callable[
    [TrainState, dict[str, Any], tuple[jax.Array, ...], jax.Array | np.integer[Any]], tuple[TrainState, Output]
]


# Beside the numbers of steps, so that what is hidden and what is dropped are drawn by different keys.
_HIDING = 0xFFFFFFFF


def make(
    settings: config.Config,
    definition: build.Definition,
    optimizer: optax.GradientTransformation,
    prepare: masking.Prepare,
    mesh: Mesh,
) -> Step:
    """Return `train_step(state, frozen, batch, index) -> (state, Output)`, to be jitted once with the state donated.

    `frozen` are the parameters that are not in the state: no gradient is taken by them. `batch` holds tokens, targets,
    weights, segments and positions, each (B, L), and `index` is its number: only a state with `step == index` learns
    from it. A step that is not finite changes nothing; without train.max_nonfinite it does not count either, and so
    stops all that were dispatched behind it.
    """
    gradient = make_gradient(settings, definition, prepare, mesh)

    def train_step(
        state: TrainState, frozen: dict[str, Any], batch: tuple[jax.Array, ...], index: jax.Array | np.integer[Any]
    ) -> tuple[TrainState, Output]:
        grads, sums = gradient(state, frozen, batch)
        return _update(settings, optimizer, state, index, grads, sums)

    return train_step


def make_gradient(
    settings: config.Config, definition: build.Definition, prepare: masking.Prepare, mesh: Mesh
) -> Callable[[TrainState, dict[str, Any], tuple[jax.Array, ...]], tuple[trees.PyTree, losses.Sums]]:
    """Return `gradient(state, frozen, batch)`: sums over the weighted tokens, zero for the layers that stay."""
    train = settings.train
    num_microbatches = train.global_batch_size // (train.microbatch_size or train.global_batch_size)
    dropout_on = max(settings.model.dropout, settings.adapter.dropout) > 0.0
    chunk = reduction.chunk(settings, mesh)

    def loss_sums(
        parameters: dict[str, Any], frozen: dict[str, Any], batch: tuple[jax.Array, ...], key: jax.Array | None
    ) -> tuple[jax.Array, losses.Sums]:
        sums = losses.of_batch(definition, trees.joined(parameters, frozen), batch, key, chunk=chunk)
        return sums.loss, sums

    gradient = jax.grad(loss_sums, has_aux=True)

    def learn(
        parameters: tuple[dict[str, Any], dict[str, Any]], batch: tuple[jax.Array, ...], keys: reduction.Keys
    ) -> tuple[trees.PyTree, losses.Sums]:
        hiding, dropping = keys
        assert hiding is not None
        # Before it is parted into microbatches: what is hidden does not depend on their number.
        batch = prepare(batch, hiding)
        of_part = functools.partial(gradient, *parameters)
        if num_microbatches == 1:
            return of_part(batch, dropping)
        return _accumulate(of_part, batch, dropping, num_microbatches)

    learn_from_all = reduction.in_one_order(settings.parallel, mesh, learn)

    def of_state(
        state: TrainState, frozen: dict[str, Any], batch: tuple[jax.Array, ...]
    ) -> tuple[trees.PyTree, losses.Sums]:
        hiding = jax.random.fold_in(jax.random.fold_in(state.key, _HIDING), state.step)
        dropping = jax.random.fold_in(state.key, state.step) if dropout_on else None
        grads, sums = learn_from_all((state.parameters, frozen), batch, (hiding, dropping))
        return subtree.hold(train.freeze_layers, grads, jax.tree.map(jnp.zeros_like, grads)), sums

    return of_state


def _accumulate(
    gradient: Callable[..., tuple[trees.PyTree, losses.Sums]],
    batch: tuple[jax.Array, ...],
    key: jax.Array | None,
    num_microbatches: int,
) -> tuple[trees.PyTree, losses.Sums]:
    """Return the sums of gradients and losses over microbatches; sums, so that 4 x 2 rows equal 8."""
    # Row r goes to microbatch r % n: each device keeps an equal part of every microbatch without moving a row.
    parts = jax.tree.map(lambda array: array.reshape(-1, num_microbatches, *array.shape[1:]).swapaxes(0, 1), batch)
    keys = None if key is None else jax.random.split(key, num_microbatches)

    def add(total: trees.PyTree, part: tuple[tuple[jax.Array, ...], jax.Array | None]) -> tuple[trees.PyTree, None]:
        return jax.tree.map(jnp.add, total, gradient(*part)), None

    first = (jax.tree.map(lambda array: array[0], parts), None if keys is None else keys[0])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(gradient, *first))
    return jax.lax.scan(add, zero, (parts, keys))[0]


def _update(
    settings: config.Config,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    index: jax.Array | np.integer[Any],
    grads: trees.PyTree,
    sums: losses.Sums,
) -> tuple[TrainState, Output]:
    held = functools.partial(subtree.hold, settings.train.freeze_layers)
    weight = jnp.maximum(sums.weight, 1.0)
    loss, grad_norm = sums.loss / weight, optax.tree.norm(grads) / weight
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    scale = optimizers.clip_factor(grad_norm, settings.optimizer.clip_norm) / weight
    updates, moments = optimizer.update(
        jax.tree.map(lambda grad: grad * scale, grads),
        optimizers.at_step(state.optimizer, state.step),
        state.parameters,
    )
    step, parameters = state.step + 1, held(optax.apply_updates(state.parameters, updates), state.parameters)
    updated = TrainState(step, parameters, moments, state.key)
    # Decided on the device before anything is replaced; the host reads `finite` a step later, and stops or counts.
    is_next = state.step == index
    accept = finite & is_next
    kept = jax.tree.map(lambda new, old: new if new is old else jnp.where(accept, new, old), updated, state)
    if settings.train.max_nonfinite:
        kept = dataclasses.replace(kept, step=jnp.where(is_next, step, state.step))
    rate = schedule.learning_rate(state.step, settings.optimizer, settings.train.num_steps)
    return kept, Output(
        loss, sums.correct / weight, grad_norm, optax.tree.norm(state.parameters), rate, sums.weight, finite
    )
