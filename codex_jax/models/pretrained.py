"""Weights from a directory of Hugging Face's form to parameters on their devices, a tensor at a time.

All that a directory holds is compared with the model before a value is read, and every difference is named at once.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from codex_jax import amounts, trees
from codex_jax.errors import AssetError
from codex_jax.models import codes, stored, weight_files
from codex_jax.models.build import Definition
from codex_jax.models.codes import Coded
from codex_jax.models.families.family import Weight
from codex_jax.models.stored import Stored


_MOST_LISTED = 40
# What came out of TensorFlow, BERT above all, names norms so.
_OF_OLD = {"weight": "gamma", "bias": "beta"}


class Source(NamedTuple):
    """A leaf, and the tensors it is filled from: one, or one for each layer."""

    leaf: str
    shape: tuple[int, ...]
    row: Weight
    tensors: list[Stored]

    @property
    def stacked(self) -> bool:
        """Whether the layers are on its first axis."""
        return "{layer}" in self.row.name

    @property
    def size(self) -> int:
        """Numbers in one of its tensors."""
        return math.prod(self.shape[1:] if self.stacked else self.shape)


def digest(directory: Path) -> str:
    """Return the SHA-256 over names and contents of the weight files."""
    return weight_files.digest(directory)


def load(directory: Path, definition: Definition, places: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a directory as float32 parameters, each leaf on its sharding of the nested dict `places`.

    Leaves of the model that have no place are not looked for. On top of the parameters there is never more in memory
    than one tensor and a few megabytes. Raises AssetError that lists everything in which the directory and the
    definition differ, before anything is read.
    """
    wanted = dict(trees.named_leaves(places))
    coded = {name.removesuffix("codes") + "kernel" for name in wanted if name.endswith("/codes")}
    sources = match(directory, definition, {*wanted, *coded})
    _check_memory(directory, definition)
    # One for all: jax lets go of what it has read from only when it is called again.
    memory = stored.room(max(source.size for source in sources))
    # All begun before the first is filled: getting memory takes as long as reading, and goes on meanwhile.
    plain = [source for source in sources if source.leaf in wanted]
    rooms = {one.leaf: _room(_float32(one.shape), wanted[one.leaf]) for one in plain if one.stacked}
    made: dict[str, jax.Array] = {}
    for source in sources:
        if source.leaf in wanted:
            made[source.leaf] = _filled(source, wanted[source.leaf], memory, rooms.get(source.leaf))
            continue
        product = source.leaf.removesuffix("kernel")
        names = Coded(f"{product}codes", f"{product}scales")
        pair = _coded(source, Coded(*(wanted[name] for name in names)), memory, definition)
        made |= dict(zip(names, pair, strict=True))
    return jax.tree_util.tree_map_with_path(lambda path, _: made[trees.name(path)], places)


def _check_memory(directory: Path, definition: Definition) -> None:
    """Raise AssetError for a model that is larger than this machine's memory, where that is where it goes."""
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(definition.abstract))
    there = psutil.virtual_memory().total * jax.process_count()
    if jax.default_backend() == "cpu" and needed > there:
        raise AssetError(
            f"the weights in {directory} take {amounts.size(needed)} of memory, and there are {amounts.size(there)}: "
            "keep them in few bits (quantization.mode), or use a larger machine"
        )


def match(directory: Path, definition: Definition, wanted: Container[str]) -> list[Source]:
    """Return where each wanted leaf comes from.

    AssetError lists what is missing, unexpected, or of another shape or type.
    """
    found = weight_files.tensors(directory)
    left, sources = dict(found), []
    problems: list[str] = []
    shapes = definition.shapes
    for leaf, row, names in rows(definition):
        expected = published_shape(leaf, shapes[leaf], row)
        tensors = []
        for name in names:
            one = _taken(left, name, definition.family.prefix)
            if leaf in wanted:
                problems += _differences(name, one, expected)
                tensors += [one] if one else []
        if leaf in wanted:
            sources.append(Source(leaf, shapes[leaf], row, tensors))
    head = _check_tied(definition, found, left)
    problems += [f"{name}: is no tensor of this model" for name in sorted(left) if not _is_ignored(definition, name)]
    if problems:
        raise AssetError(_listing(directory, definition, problems))
    if head:
        _check_equal(directory, *head)
    return sources


def leaves(definition: Definition) -> set[str]:
    """Return the names of the leaves that weights are read for; adapters, for one, are not among them."""
    found = {leaf for leaf, _, _ in rows(definition)}
    coded = {name.removesuffix("kernel") + part for name in definition.kernels for part in ("codes", "scales")}
    return (found - set(definition.kernels)) | coded


def rows(definition: Definition) -> Iterator[tuple[str, Weight, list[str]]]:
    """Yield (leaf, row, names of its tensors, one or as many as there are layers) of the family's table."""
    for row in definition.family.weights(definition.shape):
        layers = range(definition.shape.num_layers) if "{layer}" in row.name else (0,)
        yield row.leaf, row, [row.name.format(layer=layer) for layer in layers]


def published_shape(leaf: str, shape: tuple[int, ...], row: Weight) -> tuple[int, ...]:
    """Return the shape of a leaf's tensor as its files have it: kernels are matrices there, biases vectors."""
    inner = shape[1:] if "{layer}" in row.name else shape
    if leaf.endswith("/kernel"):
        inner = (inner[0], math.prod(inner[1:]))
    elif not leaf.endswith("/embedding"):
        inner = (math.prod(inner),)
    return inner[::-1] if row.transposed else inner


def _taken(left: dict[str, Stored], name: str, prefix: str) -> Stored | None:
    """Take a tensor out of those that are left, under its name of today, without prefix, or of old."""
    of_old = re.sub(r"(?<=LayerNorm\.)(weight|bias)$", lambda found: _OF_OLD[found[0]], name)
    for one in dict.fromkeys((name, name.removeprefix(prefix), of_old, of_old.removeprefix(prefix))):
        if one in left:
            return left.pop(one)
    return None


def _differences(name: str, one: Stored | None, wanted: tuple[int, ...]) -> Iterator[str]:
    if one is None:
        yield f"{name}: is missing"
        return
    if one.shape != wanted:
        yield f"{name}: has shape {one.shape}, here {wanted}"
    if one.dtype not in stored.DTYPES:
        yield f"{name}: is of type {one.dtype}, read are {', '.join(stored.DTYPES)}"


def _is_ignored(definition: Definition, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in definition.family.ignored)


def _check_tied(
    definition: Definition, found: dict[str, Stored], left: dict[str, Stored]
) -> tuple[Stored, Stored] | None:
    """Take the head out of what is left where it is the embedding; return both if it was stored all the same."""
    if not definition.shape.tied:
        return None
    table = definition.family.weights(definition.shape)
    untied = definition.family.weights(dataclasses.replace(definition.shape, tied=False))
    for row in untied:
        if row not in table and row.leaf.endswith("/embedding") and row.name in left:
            name = next(row.name for row in table if row.leaf == "tokens/embedding")
            embedding = found.get(name) or found.get(name.removeprefix(definition.family.prefix))
            head = left.pop(row.name)
            return (embedding, head) if embedding else None
    return None


def _check_equal(directory: Path, embedding: Stored, head: Stored) -> None:
    """Raise AssetError unless the stored head is the embedding, bit for bit."""
    alike = (embedding.dtype, embedding.shape, embedding.turned) == (head.dtype, head.shape, head.turned)
    if alike:
        alike = all(part == same for part, same in zip(stored.raw(embedding), stored.raw(head), strict=True))
    elif (embedding.dtype, embedding.shape) == (head.dtype, head.shape):
        one, other = (stored.read(part, stored.room(math.prod(part.shape)), turned=False) for part in (embedding, head))
        alike = np.array_equal(one, other)
    if not alike:
        raise AssetError(
            f"{directory}: config.json says that the head is the embedding (tie_word_embeddings), but the weights have "
            "a head of other values; set tie_word_embeddings to false if it is meant"
        )


def _listing(directory: Path, definition: Definition, problems: list[str]) -> str:
    more = [f"and {len(problems) - _MOST_LISTED} more"] if len(problems) > _MOST_LISTED else []
    family = definition.family.name
    head = f"the weights in {directory} are not those of this {family}; {len(problems)} tensors differ:"
    return "\n  ".join([head, *problems[:_MOST_LISTED], *more])


def filled(source: Source, place: Sharding) -> jax.Array:
    """Return a leaf, float32, from its tensors."""
    whole = _room(_float32(source.shape), place) if source.stacked else None
    return _filled(source, place, stored.room(source.size), whole)


def _filled(source: Source, place: Sharding, memory: np.ndarray, whole: jax.Array | None) -> jax.Array:
    return _single(source, place, memory) if whole is None else _stacked(source, place, memory, whole)


def _float32(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _room(leaf: jax.ShapeDtypeStruct, place: Sharding) -> jax.Array:
    zeros: jax.Array = jax.jit(functools.partial(jnp.zeros, leaf.shape, leaf.dtype), out_shardings=place)()
    return zeros


def _single(source: Source, place: Sharding, memory: np.ndarray) -> jax.Array:
    # A copy: on a CPU jax holds NumPy's memory as it is.
    copied = jax.jit(jnp.copy, out_shardings=place)(_read(source, source.tensors[0], memory, place))
    done: jax.Array = jax.block_until_ready(copied)
    return done


def _stacked(source: Source, place: Sharding, memory: np.ndarray, whole: jax.Array) -> jax.Array:
    put = jax.jit(jax.lax.dynamic_update_index_in_dim, static_argnums=3, donate_argnums=0, out_shardings=place)
    for layer, tensor in enumerate(source.tensors):
        # Waited for, since the next one is read into the same memory.
        block = _read(source, tensor, memory, _of_layer(place))
        whole = jax.block_until_ready(put(whole, block, np.int32(layer), 0))
    return whole


def _coded(source: Source, places: Coded, memory: np.ndarray, definition: Definition) -> Coded:
    """Return a kernel in few bits: each layer is read whole, coded, and forgotten."""
    shapes = dict(trees.named_leaves(definition.abstract))
    product = source.leaf.removesuffix("kernel")
    kept = Coded(shapes[f"{product}codes"], shapes[f"{product}scales"])
    whole = Coded(*(_room(leaf, place) for leaf, place in zip(kept, places, strict=True)))
    of_one = Coded(*map(_of_layer, places))
    encode = jax.jit(functools.partial(codes.encode, mode=codes.mode_of(kept)), out_shardings=of_one)
    put = jax.jit(
        lambda whole, layer, index: Coded(
            *(jax.lax.dynamic_update_index_in_dim(*parts, index, 0) for parts in zip(whole, layer, strict=True))
        ),
        donate_argnums=0,
        out_shardings=places,
    )
    inputs, features = source.shape[1], math.prod(source.shape[2:])
    for index, tensor in enumerate(source.tensors):
        values = stored.read(tensor, memory[: source.size], turned=source.row.transposed).reshape(inputs, features)
        whole = jax.block_until_ready(put(whole, encode(values), np.int32(index)))
    return whole


def _read(source: Source, tensor: Stored, memory: np.ndarray, place: Sharding) -> jax.Array:
    shape = source.shape[1:] if source.stacked else source.shape
    values = stored.read(tensor, memory[: source.size], turned=source.row.transposed).reshape(shape)
    return jax.make_array_from_callback(shape, place, lambda index: values[index])


def _of_layer(place: Sharding) -> Sharding:
    """Return where one layer of a stacked leaf is."""
    if not isinstance(place, NamedSharding):
        return place
    return NamedSharding(place.mesh, PartitionSpec(*place.spec[1:]))
