"""Sums over a batch in one order: its shards, each worked out on one device, are added as leaves of one binary tree.

Else devices that share a batch add up in an order of their own, and work on arrays of their own shape. Here a shard has
the same shape on any number of devices. A device adds the subtree of its own shards; the levels above it are added by
pairs of devices, which swap their sums: a + b and b + a are the same bits.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from codex_jax import config, sharding, trees


Keys = tuple[jax.Array | None, ...]
Work = Callable[[Any, tuple[jax.Array, ...], Keys], Any]


def in_one_order(parallel: config.Parallel, mesh: Mesh, work: Work) -> Work:
    """Return what sums up `work(given, batch, keys)` over the shards of a batch; without them, `work` itself.

    `work` returns a tree of sums over the rows of `batch`, arrays (B, ...), of which each shard has an equal part. Its
    random `keys` are made from those given by the number of the shard; `given` is the same for all of them.
    """
    if not parallel.deterministic_reduction:
        return work
    num_devices = sharding.batch_ways(mesh)
    num_own = parallel.deterministic_reduction // num_devices

    def on_a_device(given: Any, batch: tuple[jax.Array, ...], keys: Keys) -> Any:
        parts = jax.tree.map(lambda array: array.reshape(num_own, -1, *array.shape[1:]), batch)
        first = jax.lax.axis_index("data") * num_own

        def of_shard(index: jax.Array) -> Any:
            # Between barriers: what a compiler fuses with a shard's own work may round it in another way. A device with
            # one shard has no loop that would part them: one of a single turn is taken away.
            inputs = (given, jax.tree.map(lambda part: part[index], parts))
            known, rows = jax.lax.optimization_barrier(inputs)
            own_keys = jax.tree.map(lambda key: jax.random.fold_in(key, first + index), keys)
            return jax.lax.optimization_barrier(work(known, rows, own_keys))

        # Nor with what is made of the sums.
        return jax.lax.optimization_barrier(_across(_subtree(of_shard, num_own), num_devices))

    specs = (P(), sharding.BATCH, P())
    # No check: that all devices have the same sums at the end is not seen by it.
    return jax.shard_map(on_a_device, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)


def compiler_options(parallel: config.Parallel, mesh: Mesh) -> dict[str, str] | None:
    """Return what a program with `in_one_order` in it is to be compiled with."""
    if not parallel.deterministic_reduction:
        return None
    # What is computed twice is found earlier where there are several devices than where there is one, and what is used
    # once is simplified otherwise than what is used twice.
    passes = ["cse"]
    if jax.__version_info__ < (0, 11) and mesh.devices.flat[0].platform == "cpu":
        # By it jax 0.10 drops the barriers before it fuses. Later ones do so after, and end the process without it.
        passes.append("cse_barrier_expander")
    return {"xla_disable_hlo_passes": ",".join(passes)}


def chunk(settings: config.Config, mesh: Mesh) -> int:
    """Return how many tokens have logits at one time, over all devices that work on one batch, or shard, together."""
    together = 1 if settings.parallel.deterministic_reduction else sharding.batch_ways(mesh)
    return together * settings.train.loss_chunk


def _subtree(of_shard: Callable[[jax.Array], Any], count: int) -> trees.PyTree:
    """Return the sum of `of_shard(0..count-1)`, where count is a power of two; log2(count) sums are kept on the way."""
    # As one counts in binary: kept[n] is a subtree of 2^n shards that waits for the one beside it. The last carry has
    # no place of its own; when it comes all are free.
    places = max(1, count.bit_length() - 1)

    def add(kept: trees.PyTree, index: jax.Array) -> tuple[trees.PyTree, None]:
        def is_waiting(carry: tuple[jax.Array, trees.PyTree]) -> jax.Array:
            return (index >> carry[0]) & 1 == 1

        def join(carry: tuple[jax.Array, trees.PyTree]) -> tuple[jax.Array, trees.PyTree]:
            level, right = carry
            return level + 1, jax.tree.map(lambda left, more: left[level] + more, kept, right)

        level, total = jax.lax.while_loop(is_waiting, join, (jnp.int32(0), of_shard(index)))
        return jax.tree.map(lambda all_kept, one: all_kept.at[level % places].set(one), kept, total), None

    shapes = jax.eval_shape(of_shard, jax.ShapeDtypeStruct((), jnp.int32))
    empty = jax.tree.map(lambda leaf: jnp.zeros((places, *leaf.shape), leaf.dtype), shapes)
    kept, _ = jax.lax.scan(add, empty, jnp.arange(count))
    return jax.tree.map(lambda leaf: leaf[0], kept)


def _across(subtree: trees.PyTree, num_devices: int) -> trees.PyTree:
    """Return the sum over the devices of the batch: in each round those whose numbers differ in one bit swap."""
    swap = functools.partial(jax.lax.ppermute, axis_name="data")
    for distance in _powers_below(num_devices):
        pairs = [(device, device ^ distance) for device in range(num_devices)]
        subtree = jax.tree.map(lambda sums: sums + swap(sums, perm=pairs), subtree)  # noqa: B023 - used at once
    return subtree


def _powers_below(limit: int) -> Sequence[int]:
    return [1 << level for level in range(limit.bit_length() - 1)]
