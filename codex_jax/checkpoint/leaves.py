"""The leaves of a train state by name, with shape and type: what a checkpoint holds and what a program expects."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from codex_jax import trees


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Shape and type of one array."""

    shape: tuple[int, ...]
    dtype: str
    """`float32`, `int32`, ...; `key<fry>` for a typed PRNG key"""

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def table(tree: trees.PyTree) -> dict[str, Leaf]:
    """Return the leaves of a tree of arrays or shapes by name; ValueError for another leaf, or a name used twice."""
    named = trees.named_leaves(tree)
    unfit = [name for name, leaf in named if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))]
    if unfit:
        raise ValueError(f"a checkpoint holds arrays of jax, which these leaves are not: {', '.join(unfit)}")
    made = {name: Leaf(tuple(leaf.shape), str(leaf.dtype)) for name, leaf in named}
    if len(made) != len(named):
        raise ValueError("two leaves of the state have the same name")
    return made


def is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether a leaf is a typed PRNG key."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def differences(saved: Mapping[str, Leaf], expected: Mapping[str, Leaf]) -> list[str]:
    """Return one line for each leaf that only one side has, or that has another shape or type."""
    lines = [f"{name}: missing in the checkpoint, expected {expected[name]}" for name in expected if name not in saved]
    lines += [f"{name}: {saved[name]} in the checkpoint, not expected" for name in saved if name not in expected]
    lines += [
        f"{name}: {leaf} in the checkpoint, expected {expected[name]}"
        for name, leaf in saved.items()
        if name in expected and expected[name] != leaf
    ]
    return sorted(lines)


def to_json(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Return the table as plain values."""
    return {name: {"shape": list(leaf.shape), "dtype": leaf.dtype} for name, leaf in leaves.items()}


def from_json(content: Mapping[str, Any]) -> dict[str, Leaf]:
    """Return the table that `to_json` wrote."""
    return {name: Leaf(tuple(fields["shape"]), fields["dtype"]) for name, fields in content.items()}
