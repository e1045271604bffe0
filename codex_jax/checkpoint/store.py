"""Find the newest checkpoint that is whole, and restore it bit for bit."""

import dataclasses
from pathlib import Path
from typing import Any

from codex_jax import trees
from codex_jax.checkpoint import arrays, document, finite, layout, leaves, manifest
from codex_jax.checkpoint.leaves import Leaf
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.errors import AssetError
from codex_jax.hosts.team import Team


STATE = "state"
MAX_LISTED_DIFFERENCES = 20
# What Orbax raises for what it cannot read.
UNREADABLE = (ValueError, KeyError, TypeError, OSError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Found:
    """A verified checkpoint, and what was passed over on the way to it."""

    step: int
    path: Path
    meta: dict[str, Any]
    """what the trainer gave to `save`"""
    data_state: dict[str, Any]
    leaves: dict[str, Leaf]
    versions: dict[str, str]
    is_finite: bool
    """whether every value was looked at before it was written"""
    manifest: Manifest
    skipped: list[tuple[int, str]]
    """(step, reason): newer ones that are damaged, or hold NaN"""


def find_newest(root: Path) -> Found | None:
    """Return the newest checkpoint under `root` whose every byte is as it was written and whose numbers are finite.

    Nothing on disk is changed. None when there is none and never was: no directory, an empty one, or only saves that
    were killed. AssetError when there are checkpoints and none is good: training must not begin anew in silence.
    """
    try:
        steps = layout.steps(root)
    except OSError as error:
        raise AssetError(f"{root} cannot be listed ({error.strerror})") from error
    damaged: list[tuple[int, str]] = []
    for step in steps:
        try:
            found = load(layout.path_of(root, step))
        except AssetError as error:
            damaged.append((step, str(error).removeprefix(f"{layout.path_of(root, step)}: ")))
        else:
            return dataclasses.replace(found, skipped=damaged)
    if damaged:
        raise AssetError(
            f"no checkpoint in {root} can be used:\n  "
            + "\n  ".join(f"{step}: {reason}" for step, reason in damaged)
            + "\nput back a good copy, or choose another --workdir to begin anew"
        )
    return None


def find(root: Path, step: int) -> Found:
    """Return the checkpoint of a step; AssetError when it is not there, not as it was written, or not finite."""
    return load(locate(root, step))


def locate(root: Path, step: int) -> Path:
    """Return where the checkpoint of a step is; AssetError when it is not there."""
    if step not in (there := layout.steps(root)):
        raise AssetError(
            f"{root} has no checkpoint of step {step}; those it has: {', '.join(map(str, there)) or 'none'}"
        )
    return layout.path_of(root, step)


def find_newest_of(team: Team, root: Path) -> Found | None:
    """Return what `find_newest` finds in the first process, which alone reads every byte; the others read its names."""
    found = find_newest(root) if team.is_first else None
    step, digest = team.decide(lambda: (found.step, found.manifest.root) if found else (0, ""))
    if team.is_first or not digest:
        return found
    directory = layout.path_of(root, step)
    listed = manifest.read(directory)
    if listed.root != digest:
        raise AssetError(
            f"{directory} is not the checkpoint that process 0 sees: name a --workdir that all hosts share"
        )
    return _found(directory, listed)


def restore(found: Found, target: trees.PyTree) -> trees.PyTree:
    """Return the saved state, bit for bit, in the structure and on the devices of `target`.

    `target` holds a jax.ShapeDtypeStruct with a sharding for each leaf; the shardings need not be those it was saved
    with. AssetError lists every leaf that is missing, extra, or of another shape or type.
    """
    if problems := leaves.differences(found.leaves, leaves.table(target)):
        more = len(problems) - MAX_LISTED_DIFFERENCES
        listed = problems[:MAX_LISTED_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
        raise AssetError(
            f"checkpoint {found.path} is of another model or optimizer; {len(problems)} leaves differ:\n  "
            + "\n  ".join(listed)
            + "\nrun with the configuration it was made with, or choose another --workdir"
        )
    unplaced = [name for name, leaf in trees.named_leaves(target) if leaf.sharding is None]
    if unplaced:
        raise ValueError(f"leaves of the target without a sharding: {', '.join(unplaced)}")
    try:
        return arrays.restore(found.path / STATE, target)
    except UNREADABLE as error:
        raise AssetError(f"checkpoint {found.path} is intact but cannot be restored: {_first_line(error)}") from error


def load(directory: Path) -> Found:
    """Return a checkpoint as it was written and finite; AssetError says what is wrong with another."""
    found = load_as_written(directory)
    if wrong := finite.says(list(not_finite(found))):
        raise AssetError(f"{directory}: {wrong}")
    return found


def load_as_written(directory: Path) -> Found:
    """Return a checkpoint as it was written, whatever its numbers are: to look at, for `load` refuses some of these."""
    return _found(directory, manifest.verify(directory))


def not_finite(found: Found) -> dict[str, int]:
    """Return how many values of each leaf are NaN or infinite, where there are such; AssetError if none can be read.

    Where they were looked at before they were written, and are as they were written, they are not read again.
    """
    try:
        return {} if found.is_finite else arrays.not_finite(found.path / STATE, found.leaves)
    except UNREADABLE as error:
        raise AssetError(f"{found.path}: intact but cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _found(directory: Path, listed: Manifest) -> Found:
    read = document.read(directory)
    return Found(
        step=read.step,
        path=directory,
        meta=read.meta,
        data_state=read.data_state,
        leaves=read.leaves,
        versions=read.versions,
        is_finite=read.is_finite,
        manifest=listed,
        skipped=[],
    )
