"""A model, its optimizer and a mesh, put together: how a state is made, what it looks like, and how it is updated."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from codex_jax import config, sharding
from codex_jax.models import build
from codex_jax.training import masking, optimizer, state, step
from codex_jax.training.state import TrainState


class Program(NamedTuple):
    """Compiled at the first call, once each."""

    definition: build.Definition
    target: TrainState
    """the state's shapes, types and shardings: where one is made or restored"""
    initial: Callable[[], TrainState]
    """a fresh state, each leaf made where it will live"""
    update: step.Step
    """`update(state, batch, index) -> (state, Output)`; the buffers of the given state are used up"""


def make(settings: config.Config, mesh: Mesh, prepare: masking.Prepare) -> Program:
    """Return the program of these settings, which learns from what `prepare` makes of a batch.

    ConfigError when model or parameters do not fit the devices.
    """
    definition = build.define(settings.model)
    tx = optimizer.make(settings.optimizer, settings.train.num_steps, definition.abstract)
    initial = functools.partial(state.initial, settings, tx)
    target = sharding.abstract(initial, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, target)
    update = step.make(settings, definition, tx, prepare, chunk=sharding.batch_ways(mesh) * settings.train.loss_chunk)
    return Program(
        definition=definition,
        target=target,
        initial=jax.jit(initial, out_shardings=places),
        # Without out_shardings the compiler may lay the new state out another way, and compile a second time for it.
        update=jax.jit(update, donate_argnums=0, out_shardings=(places, sharding.replicated(mesh))),
    )
