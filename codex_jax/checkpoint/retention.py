"""Which checkpoints stay: the newest few that are intact; and how the rest goes without ever looking like one."""

import os
import shutil
import time
from pathlib import Path

from codex_jax.checkpoint import layout, manifest
from codex_jax.errors import AssetError


DISCARD_TRIES = 100
DISCARD_WAIT_SECS = 0.05
CALM_LOOKS = 10  # half a second without a sign of another writer


def apply(root: Path, keep_last: int, intact: set[int]) -> list[int]:
    """Delete the checkpoints older than the newest `keep_last` intact ones and return their steps.

    `intact` holds the steps already known to be good; the others are verified before they count, and added. A damaged
    checkpoint so never takes the place of a good one.
    """
    deleted, kept = [], 0
    for step in layout.steps(root):
        directory = layout.path_of(root, step)
        if kept < keep_last:
            kept += step in intact or _verify(directory, step, intact)
        elif not directory.is_symlink() and (directory / manifest.NAME).is_file():
            remove(directory)
            deleted.append(step)
    intact.difference_update(deleted)
    return deleted


def remove(directory: Path) -> None:
    """Delete a checkpoint; killed half-way, it leaves STEP.deleting, which nobody takes for a checkpoint."""
    doomed = layout.with_suffix(directory, layout.DELETING)
    if os.path.lexists(doomed):
        shutil.rmtree(doomed)
    layout.rename(directory, doomed)
    shutil.rmtree(doomed)


def discard(directory: Path) -> None:
    """Delete a save that failed, to give its space back; what still cannot be deleted is left to the next `sweep`.

    Orbax reports the first error while its other writers go on for a moment, and a writer makes its directory anew. So
    it is deleted until it stays away.
    """
    calm = 0
    for _ in range(DISCARD_TRIES):
        calm = 0 if directory.exists() else calm + 1
        if calm == CALM_LOOKS:
            return
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(DISCARD_WAIT_SECS)


def sweep(root: Path) -> list[str]:
    """Delete what killed saves and killed deletions left behind, and return the names."""
    found = layout.leftovers(root)
    for path in found:
        shutil.rmtree(path)
    return [path.name for path in found]


def _verify(directory: Path, step: int, intact: set[int]) -> bool:
    try:
        manifest.verify(directory)
    except AssetError:
        return False
    intact.add(step)
    return True
