"""A small train state, and the questions the tests of checkpoints ask about it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    key: jax.Array


OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def mesh(devices: int) -> Mesh:
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def make(step: int, on: Mesh, width: int = 64) -> State:
    """Return a state whose every leaf depends on `step`; kernels are split over the devices, the rest is replicated."""
    return _builder(on, width)(step)


@functools.cache
def _builder(on: Mesh, width: int) -> Callable[[int], State]:
    def build(step: jax.Array) -> State:
        key = jax.random.key(step)
        params = {
            "tokens": {"embedding": jax.random.normal(key, (width, 8))},
            "blocks": {
                "kernel": jax.random.normal(key, (2, width, 16), jnp.bfloat16),
                "bias": jnp.arange(16.0) * step,
            },
            "mask": jnp.array([True, False]),
            "empty": jnp.zeros((0, 3)),
        }

        def fill(leaf: jax.Array) -> jax.Array:
            return leaf + step if leaf.dtype == jnp.int32 else leaf + jax.random.normal(key, leaf.shape, leaf.dtype)

        float_params = {name: params[name] for name in ("tokens", "blocks", "empty")}
        opt_state = jax.tree.map(fill, OPTIMIZER.init(float_params))
        return State(step, params, opt_state, jax.random.fold_in(key, step))

    shapes = jax.eval_shape(build, jnp.int32(0))
    compiled = jax.jit(build, out_shardings=shardings(shapes, on))
    return lambda step: compiled(jnp.int32(step))


def shardings(tree: Any, on: Mesh) -> Any:
    return jax.tree.map(lambda leaf: NamedSharding(on, P("data") if leaf.shape and leaf.shape[0] == 64 else P()), tree)


def target(like: State, on: Mesh) -> State:
    """Return the shapes of a state, to be placed on another mesh."""
    placed = shardings(like, on)
    return jax.tree.map(lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), like, placed)


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and raw bytes of every leaf."""
    made = []
    for leaf in jax.tree.leaves(tree):
        plain = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        made.append((str(leaf.dtype), tuple(leaf.shape), np.asarray(plain).tobytes()))
    return made
