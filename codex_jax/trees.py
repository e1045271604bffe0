"""Names of the leaves of a tree (`blocks/mlp/up/kernel`), and decisions made by matching those names."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax

from codex_jax.errors import ConfigError


T = TypeVar("T")
PyTree = Any


def name(path: Sequence[Any]) -> str:
    """Return the slash-separated name of a leaf from its key path."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """Return (name, leaf) of every leaf, in the tree's own order."""
    return [(name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def by_rule(tree: PyTree, rules: Sequence[tuple[str, T]], purpose: str) -> PyTree:
    """Replace every leaf by the value of the first rule whose regular expression is found in its name.

    The table must cover every leaf: ConfigError lists the leaves that no rule matches.
    """
    uncovered = [
        leaf_name
        for leaf_name, _ in named_leaves(tree)
        if not any(re.search(pattern, leaf_name) for pattern, _ in rules)
    ]
    if uncovered:
        raise ConfigError(f"{len(uncovered)} leaves match no {purpose} rule: {', '.join(uncovered)}")
    return jax.tree_util.tree_map_with_path(
        lambda path, _: next(value for pattern, value in rules if re.search(pattern, name(path))), tree
    )


def split(tree: Mapping[str, Any], is_first: PyTree) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the leaves of a nested dict that are true in `is_first`, and the others, each in their places."""
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for key, node in tree.items():
        if isinstance(node, Mapping):
            for side, part in zip((first, second), split(node, is_first[key]), strict=True):
                if part:
                    side[key] = part
        else:
            (first if is_first[key] else second)[key] = node
    return first, second


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dict with the leaves of both, which have none in common; ValueError names one they have."""
    made = dict(first)
    for key, node in second.items():
        if key not in made:
            made[key] = node
        elif isinstance(node, Mapping) and isinstance(made[key], Mapping):
            made[key] = joined(made[key], node)
        else:
            raise ValueError(f"{key} is a leaf of both trees")
    return made


def replaced(tree: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested dict with the leaves of `given`, which has some of its leaves, in their places."""
    return {
        key: replaced(node, given.get(key, {})) if isinstance(node, Mapping) else given.get(key, node)
        for key, node in tree.items()
    }


def num_parameters(tree: PyTree) -> int:
    """Return the number of elements in all leaves."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
