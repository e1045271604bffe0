"""A model, its optimizer and a mesh, put together: how a state is made, what it looks like, and how it is updated."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from codex_jax import cache, config, sharding, trees
from codex_jax.models import build, lora, quantize
from codex_jax.training import compilations, layers, masking, optimizer, reduction, state, step, subtree
from codex_jax.training.state import TrainState


class Program(NamedTuple):
    """Compiled at the first call, once each."""

    definition: build.Definition
    target: TrainState
    """the state's shapes, types and shardings: where one is made or restored"""
    trained: trees.PyTree
    """for each parameter of the model whether it is trained, and so in the state"""
    frozen: dict[str, Any]
    """shapes, types and shardings of the others"""
    initial: Callable[..., TrainState]
    """`initial(given)`: a fresh state, each leaf made where it will live but for the trained parameters in `given`, a
    nested dict, whose buffers are used up"""
    update: step.Step
    """`update(state, frozen, batch, index) -> (state, Output)`; the buffers of the given state are used up"""
    look: layers.Look
    """`look(state, frozen, batch)`: what is to be said of each layer at this state, which stays as it is"""


def make(settings: config.Config, mesh: Mesh, prepare: masking.Prepare = masking.as_is) -> Program:
    """Return the program of these settings, which learns from what `prepare` makes of a batch.

    ConfigError when model or parameters do not fit the devices.
    """
    plain = lora.adapted(build.define(settings.model), settings.adapter)
    definition = quantize.quantized(plain, settings.quantization)
    trained = subtree.trained(settings.train, definition.abstract)
    parameters, frozen = trees.split(definition.abstract, trained)
    tx = optimizer.make(settings.optimizer, settings.train.num_steps, parameters)
    initial = functools.partial(state.initial, settings, definition, tx, trained)
    target = sharding.abstract(lambda: initial({}), mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, target)
    update = step.make(settings, definition, tx, prepare, mesh)
    options = reduction.compiler_options(settings.parallel, mesh)
    return Program(
        definition=definition,
        target=target,
        trained=trained,
        frozen=sharding.placed(frozen, mesh),
        initial=jax.jit(initial, donate_argnums=0, out_shardings=places),
        # Without out_shardings the compiler may lay the new state out another way, and compile a second time for it.
        update=jax.jit(
            update,
            donate_argnums=0,
            out_shardings=(places, sharding.replicated(mesh)),
            compiler_options=options,
        ),
        look=jax.jit(
            layers.make(settings, definition, prepare, mesh),
            out_shardings=sharding.replicated(mesh),
            compiler_options=options,
        ),
    )


def use_compile_cache() -> None:
    """Keep compiled programs on disk, however small, so that the second start does not compile; count them."""
    compilations.counted()
    jax.config.update("jax_compilation_cache_dir", str(cache.directory("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
