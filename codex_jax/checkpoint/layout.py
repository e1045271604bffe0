"""Names and whereabouts of checkpoints under one root, and the two operations that make a change on disk durable.

    ROOT/20/             a checkpoint: it got this name when everything in it, manifest included, was on the disk
    ROOT/30.saving/      a save in progress, or one that was killed
    ROOT/10.deleting/    a deletion in progress, or one that was killed
    ROOT/20.damaged/     failed verification and stood in the way of a new save; kept for its owner to look at

Every other name belongs to somebody else and is never touched.
"""

import os
import re
from pathlib import Path

from codex_jax import atomic


SAVING, DELETING, DAMAGED = ".saving", ".deleting", ".damaged"

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")


def path_of(root: Path, step: int) -> Path:
    """Return where the checkpoint of a step lives."""
    return root / str(step)


def with_suffix(directory: Path, suffix: str) -> Path:
    """Return the name beside a checkpoint that says what is happening to it."""
    return directory.parent / (directory.name + suffix)


def steps(root: Path) -> list[int]:
    """Return the steps that have a name under `root`, newest first, whether or not they are intact."""
    return sorted((int(name) for name in _names(root) if _STEP.fullmatch(name)), reverse=True)


def is_step(name: str) -> bool:
    """Return whether a name is that of a checkpoint."""
    return bool(_STEP.fullmatch(name))


def beside(root: Path) -> list[Path]:
    """Return what lies beside the checkpoints and has to do with one: `leftovers`, and damaged ones moved aside."""
    aside = (root / name for name in _names(root) if is_step(name.partition(".")[0]) and DAMAGED in name)
    return sorted([*leftovers(root), *aside])


def leftovers(root: Path) -> list[Path]:
    """Return the directories that a killed save or a killed deletion left behind."""
    found = []
    for name in _names(root):
        stem, dot, suffix = name.partition(".")
        path = root / name
        if _STEP.fullmatch(stem) and dot + suffix in (SAVING, DELETING) and path.is_dir() and not path.is_symlink():
            found.append(path)
    return sorted(found)


def move_aside(directory: Path) -> Path:
    """Rename a damaged checkpoint to STEP.damaged (or STEP.damaged-2, ...) and return the new name."""
    aside, number = with_suffix(directory, DAMAGED), 1
    while os.path.lexists(aside):
        number += 1
        aside = with_suffix(directory, f"{DAMAGED}-{number}")
    rename(directory, aside)
    return aside


def rename(source: Path, target: Path) -> None:
    """Rename within one directory, and return when the new name has reached the disk."""
    os.rename(source, target)
    atomic.sync(target.parent)


def _names(root: Path) -> list[str]:
    return os.listdir(root) if root.exists() else []
