"""Whether a disk has room for the checkpoints of a run, known before the first step instead of after hours."""

import shutil
from pathlib import Path

import jax

from codex_jax import amounts, console, trees
from codex_jax.checkpoint import layout
from codex_jax.errors import TrainingStopped


def check(root: Path, state: trees.PyTree, keep: int) -> None:
    """Compare the free space with what `keep` checkpoints of a state, and one more being written, need.

    `state` holds arrays or their shapes. TrainingStopped when not even one can be written beside another; where fewer
    than `keep` fit, that is said and training begins. A disk that does not say how much is free refuses nothing.
    """
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    there, free = len(layout.steps(root)), _free(root)
    if free is None:
        return
    fewest, most = (max(1, number - there) for number in (2, keep + 1))
    numbers = (
        f"a checkpoint of this model needs {amounts.size(each)}, and {amounts.size(free)} are free for {root}, which "
        f"has {there} (a quota is not seen here)"
    )
    if free < fewest * each:
        older = f" (older ones go by codex-jax checkpoint prune {root.parent} --keep-last 1)" if there > 1 else ""
        raise TrainingStopped(
            f"no room to save: {numbers}; a new one is written beside the last, so that {amounts.size(fewest * each)} "
            f"must be free. Make room{older}, or choose a --workdir on another disk"
        )
    if free < most * each:
        console.warn(
            f"the disk will be full: {numbers}; to keep {keep}, with the next one beside them, "
            f"{amounts.size(most * each)} must be free. Make room in time, or keep fewer (checkpoint.keep_last)"
        )


def _free(root: Path) -> int | None:
    """Return what is free when the leftovers of killed saves are deleted, as they will be; None when nobody knows."""
    try:
        existing = next(path for path in (root, *root.absolute().parents) if path.is_dir())
        abandoned = [path for directory in layout.leftovers(root) for path in directory.rglob("*")]
        return shutil.disk_usage(existing).free + sum(path.lstat().st_size for path in abandoned)
    except OSError:
        return None
