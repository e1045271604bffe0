"""Where every array lives: a mesh of devices and one table from names of leaves to axes of the mesh.

Axes: `data` splits the batch; `fsdp` splits the batch and the parameters; `tensor` splits each matrix product. The
compiler places the communication (Auto axes), so models hold no sharding code.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import xla_bridge  # only it knows whether jax has begun
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from codex_jax import config, trees
from codex_jax.errors import ConfigError


# Stacked leaves carry the layer axis first. Optimizer moments end in the name of their parameter and follow it.
RULES = (
    (r"(tokens|lm_head)/embedding$", P("tensor", "fsdp")),
    (r"(positions|types)/embedding$", P(None, "fsdp")),
    (r"blocks/attention/qkv/kernel$", P(None, "fsdp", None, "tensor")),
    (r"blocks/attention/qkv/bias$", P(None, None, "tensor")),
    (r"blocks/attention/(query|key|value)/kernel$", P(None, "fsdp", "tensor")),
    (r"blocks/attention/(query|key|value)/bias$", P(None, "tensor")),
    (r"blocks/attention/out/kernel$", P(None, "tensor", "fsdp")),
    (r"blocks/mlp/(gate|up)/kernel$", P(None, "fsdp", "tensor")),
    (r"blocks/mlp/(gate|up)/bias$", P(None, "tensor")),
    (r"blocks/mlp/down/kernel$", P(None, "tensor", "fsdp")),
    (r"blocks/.*/(qkv|query|key|value|gate|up)/codes$", P(None, "fsdp", "tensor")),
    (r"blocks/.*/(out|down)/codes$", P(None, "tensor", "fsdp")),
    (r"/scales$", P()),
    (r"blocks/attention/qkv/lora_b$", P()),
    (r"blocks/.*/(qkv|query|key|value|gate|up)/lora_a$", P(None, "fsdp", None)),
    (r"blocks/.*/(query|key|value|gate|up)/lora_b$", P(None, None, "tensor")),
    (r"blocks/.*/(out|down)/lora_a$", P(None, "tensor", None)),
    (r"blocks/.*/(out|down)/lora_b$", P(None, None, "fsdp")),
    (r"/lora_[ab]$", P()),
    (r"(transform|pooler)/kernel$", P("fsdp", "tensor")),
    (r"(transform|pooler)/bias$", P("tensor")),
    (r"head_bias/bias$", P("tensor")),
    (r"classifier/kernel$", P("fsdp", None)),
    (r"(norm/(scale|bias)|out/bias|down/bias|classifier/bias)$", P()),
    (r"(^|/)(step|key|count)$", P()),
)
BATCH = P(("data", "fsdp"))
_THREADS = "PJRT_NPROC"  # read when the devices are first asked for


def make_mesh(parallel: config.Parallel) -> Mesh:
    """Return the mesh of all devices; ConfigError when there are none, or the axes do not multiply to their number.

    With parallel.deterministic_reduction it is to be the first that asks jax for them.
    """
    if parallel.deterministic_reduction:
        _fix_threads(parallel.deterministic_reduction)
    try:
        devices = jax.device_count()
    except (RuntimeError, AssertionError) as error:  # the latter when a platform was asked for that is not there
        asked = os.environ.get("JAX_PLATFORMS") or "any platform"
        raise ConfigError(
            f"jax finds no devices of {asked}: {error or 'no such platform'}; set JAX_PLATFORMS"
        ) from error
    split = parallel.fsdp * parallel.tensor
    data = parallel.data or max(1, devices // split)
    if data * split != devices:
        raise ConfigError(
            f"parallel.data x fsdp x tensor = {data} x {parallel.fsdp} x {parallel.tensor} = {data * split}, but there "
            f"are {devices} devices; make the product {devices}, or set parallel.data=0 to fill up"
        )
    if parallel.deterministic_reduction % data:
        raise ConfigError(
            f"parallel.deterministic_reduction={parallel.deterministic_reduction} does not divide over the {data} "
            f"devices that share the batch; make it a power of two that is a multiple of {data}, which takes a new "
            "--workdir, or use another number of devices"
        )
    shape = (data, parallel.fsdp, parallel.tensor)
    return jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def _fix_threads(count: int) -> None:
    """Have jax work with so many threads on a CPU; ConfigError when it has begun with another number.

    By it a large product is cut along the axis that is summed up; else it is that of the cores, or of the devices where
    those are more.
    """
    if os.environ.get(_THREADS) == str(count):
        return
    if xla_bridge.backends_are_initialized():
        if jax.default_backend() != "cpu":
            return
        raise ConfigError(
            f"parallel.deterministic_reduction={count} needs {count} threads, and jax has begun already: set the "
            f"variable {_THREADS}={count} before this process starts"
        )
    os.environ[_THREADS] = str(count)


def batch_ways(mesh: Mesh) -> int:
    """Return the number of devices, or groups of them, that share the batch."""
    return math.prod(mesh.shape[name] for name in BATCH[0])


def check_batch(train: config.Train, mesh: Mesh) -> None:
    """Raise ConfigError unless each microbatch divides over the devices that share the batch."""
    ways = batch_ways(mesh)
    rows = train.microbatch_size or train.global_batch_size
    if rows % ways:
        name = "train.microbatch_size" if train.microbatch_size else "train.global_batch_size"
        raise ConfigError(
            f"{name}={rows} does not divide over the {ways} devices that share the batch; make it a multiple of "
            f"{ways}, or give parallel.tensor more of them"
        )


def of_tree(tree: trees.PyTree, mesh: Mesh) -> trees.PyTree:
    """Return the sharding of every leaf of a tree of arrays or shapes; ConfigError lists what cannot be placed."""
    specs = trees.by_rule(tree, RULES, "sharding")
    problems = [
        f"{name}: axis {axis} of {leaf.shape} does not divide by {ways} ({'x'.join(_names(part))})"
        for (name, leaf), spec in zip(trees.named_leaves(tree), jax.tree.leaves(specs), strict=True)
        for axis, part in enumerate(spec)
        if leaf.shape[axis] % (ways := math.prod(mesh.shape[part_name] for part_name in _names(part)))
    ]
    if problems:
        raise ConfigError(
            "these parameters do not divide over the mesh; pad model.vocab_size (50304 for GPT-2) or change parallel.*:"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def abstract(make: Callable[[], trees.PyTree], mesh: Mesh) -> trees.PyTree:
    """Return the shapes of what `make()` would return, each with its sharding: where a state is made or restored."""
    return placed(jax.eval_shape(make), mesh)


def placed(shapes: trees.PyTree, mesh: Mesh) -> trees.PyTree:
    """Return shapes with the sharding of each."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes, of_tree(shapes, mesh)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a value that every device holds whole."""
    return NamedSharding(mesh, P())


def of_batch(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, BATCH)


def part_of_batch(mesh: Mesh) -> tuple[int, int]:
    """Return (index, count): which part of every batch this process holds; several may hold the same one.

    ConfigError when the devices of a process hold no part of their own.
    """
    ways = batch_ways(mesh)
    places = of_batch(mesh).addressable_devices_indices_map((ways,)).values()
    held = {rows[0].indices(ways)[0] for rows in places if rows}
    first, size = min(held), len(held)
    if max(held) - first + 1 != size or first % size:
        raise ConfigError(
            f"process {jax.process_index()} would hold the parts {sorted(held)} of the {ways} of a batch; choose "
            "parallel.* so that the devices of one process are neighbours"
        )
    return first // size, ways // size


def place(part: tuple[np.ndarray[Any, Any], ...], mesh: Mesh) -> tuple[jax.Array, ...]:
    """Copy the arrays of a batch, each (B, ...), to the devices that share it.

    Each process gives the rows of its `part_of_batch`.
    """
    if jax.process_count() == 1:
        return tuple(jax.device_put(tuple(part), of_batch(mesh)))
    return tuple(jax.make_array_from_process_local_data(of_batch(mesh), array) for array in part)


def _names(part: Any) -> tuple[str, ...]:
    return () if part is None else (part,) if isinstance(part, str) else tuple(part)
