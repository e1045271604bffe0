"""Where two checkpoints differ: leaf by leaf, in the position in the data, and in what was noted beside them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from codex_jax import changes, schema
from codex_jax.checkpoint import arrays, store
from codex_jax.checkpoint.store import Found


# Elements compared at a time: of the two leaves that are in memory no third and fourth are made.
_SLAB = 2**20
# Of meta.json what says that two states came about otherwise; who saved them, when and why does not.
_MATTERS = ("totals", "weights", "digests")


class Unlike(NamedTuple):
    """A leaf that is not the same in both."""

    name: str
    differ: int | None
    """elements whose bits differ; None when shape or type do"""
    elements: int | None
    largest: float | None
    """largest difference of two finite elements; None when there is none"""
    reason: str
    """shapes and types where they differ, else empty"""


class Value(NamedTuple):
    """A value that is not the same in both; None where one has none."""

    name: str
    a: Any
    b: Any


class Comparison(NamedTuple):
    """What is not the same in two checkpoints."""

    num_leaves: int
    not_finite: dict[str, dict[str, int]]
    """of `a` and of `b` how many values of a leaf are NaN or infinite, where there are such"""
    leaves: list[Unlike]
    position: list[Value]
    settings: list[Value]
    """those that decide numbers"""
    noted: list[Value]
    """counts and digests"""

    @property
    def is_equal(self) -> bool:
        """Return whether training would go on from both in the same way."""
        return not (self.leaves or self.position or self.settings or self.noted)


def compare(one: Found, other: Found) -> Comparison:
    """Compare two verified checkpoints without building a model; at most one leaf of each is in memory.

    Elements are compared by their bits: a NaN equals itself, and 0 is not -0. AssetError when they cannot be read.
    """
    settings = _values(_dict(one.meta.get("settings")), _dict(other.meta.get("settings")))
    return Comparison(
        len(one.leaves.keys() | other.leaves.keys()),
        {"a": store.not_finite(one), "b": store.not_finite(other)},
        list(_leaves(one, other)),
        _values(one.data_state, other.data_state),
        [value for value in settings if changes.decides(value.name)],
        _noted(one.meta, other.meta),
    )


def _leaves(one: Found, other: Found) -> Iterator[Unlike]:
    with arrays.opened(one.path / store.STATE) as read, arrays.opened(other.path / store.STATE) as read_other:
        for name in sorted(one.leaves.keys() | other.leaves.keys()):
            a, b = one.leaves.get(name), other.leaves.get(name)
            if a != b or a is None:
                yield Unlike(name, None, None, None, f"{a or 'no such leaf'} in A, {b or 'no such leaf'} in B")
            elif math.prod(a.shape) and (unlike := _unlike(name, read(name), read_other(name))):
                yield unlike


def _unlike(name: str, a: np.ndarray, b: np.ndarray) -> Unlike | None:
    flat, other = a.reshape(-1), b.reshape(-1)
    differ = 0
    largest: float | None = None
    for at in range(0, flat.size, _SLAB):
        x, y = flat[at : at + _SLAB], other[at : at + _SLAB]
        unequal = (x.view(np.uint8) != y.view(np.uint8)).reshape(x.size, -1).any(axis=1)
        differ += int(unequal.sum())
        with np.errstate(all="ignore"):
            gaps = np.abs(x[unequal].astype(np.float64) - y[unequal].astype(np.float64))
        if (finite := gaps[np.isfinite(gaps)]).size:
            largest = max(largest or 0.0, float(finite.max()))
    return Unlike(name, differ, flat.size, largest, "") if differ else None


def _noted(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Value]:
    a, b = ({name: meta[name] for name in _MATTERS if name in meta} for meta in (one, other))
    # What an older version did not note yet is no difference; the settings were compared one by one.
    return [
        value
        for value in _values(a, b)
        if value.name != "digests.config" and not (value.name.startswith("digests.") and None in value[1:])
    ]


def _values(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Value]:
    a, b = dict(schema.flatten(one)), dict(schema.flatten(other))
    return [Value(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
