"""Names of the leaves of a tree (`blocks/mlp/up/kernel`), and decisions made by matching those names."""

import math
import re
from collections.abc import Sequence
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


def num_parameters(tree: PyTree) -> int:
    """Return the number of elements in all leaves."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
