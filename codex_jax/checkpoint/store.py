"""Save the train state without stopping for it, find the newest whole checkpoint, and restore it bit for bit."""

import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from codex_jax import console, trees
from codex_jax.checkpoint import arrays, document, failure, layout, leaves, manifest, retention
from codex_jax.checkpoint.document import Document
from codex_jax.checkpoint.leaves import Leaf
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.retention import Meta, Rules
from codex_jax.errors import AssetError, TrainingStopped
from codex_jax.hosts.team import Team


STATE = "state"
_WRITE, _NOTHING_TO_DO, _FAILED = range(3)
MAX_LISTED_DIFFERENCES = 20


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
    manifest: Manifest
    skipped: list[tuple[int, str]]
    """(step, reason): newer ones that are damaged"""


def find_newest(root: Path) -> Found | None:
    """Return the newest checkpoint under `root` whose every byte is as it was written; nothing on disk is changed.

    None when there is none and never was: no directory, an empty one, or only saves that were killed. AssetError when
    there are checkpoints and each is damaged: training must not begin anew in silence.
    """
    try:
        steps = layout.steps(root)
    except OSError as error:
        raise AssetError(f"{root} cannot be listed ({error.strerror})") from error
    damaged: list[tuple[int, str]] = []
    for step in steps:
        try:
            found = _load(layout.path_of(root, step))
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
    """Return the checkpoint of a step; AssetError when it is not there, or not as it was written."""
    if step not in (there := layout.steps(root)):
        raise AssetError(
            f"{root} has no checkpoint of step {step}; those it has: {', '.join(map(str, there)) or 'none'}"
        )
    return _load(layout.path_of(root, step))


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
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise AssetError(f"checkpoint {found.path} is intact but could not be restored: {reason}") from error


class Checkpointer:
    """Saves in the background and keeps of `root` what the rules name; use it as a context manager.

    `on_saved(step, manifest)` is the acknowledgement: it is called, on a background thread and on process 0 only, when
    all of a checkpoint is on the disk under its final name. What killed saves left behind is deleted at the start and
    named in `removed`. `verified` is the checkpoint that was just read: it need not be verified again.
    """

    def __init__(
        self,
        root: Path,
        rules: Rules,
        on_saved: Callable[[int, Manifest], None],
        *,
        verified: Found | None = None,
    ) -> None:
        self._root, self._rules, self._on_saved = root, rules, on_saved
        self._is_first = jax.process_index() == 0
        self._thread: threading.Thread | None = None
        self._failure: TrainingStopped | None = None
        self._verified: dict[int, Meta] = {verified.step: verified.meta} if verified else {}
        self.removed: list[str] = []
        try:
            root.mkdir(parents=True, exist_ok=True)
            if self._is_first:
                self.removed = retention.sweep(root)
        except OSError as error:
            raise AssetError(f"{root} cannot hold checkpoints ({error.strerror}); choose another --workdir") from error
        self._writer = arrays.Writer()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except TrainingStopped as stopped:
            if not isinstance(error, Exception):  # none at all, or what only leaves the block
                raise
            error.add_note(str(stopped))  # the first failure is the one to report

    def save(self, step: int, state: trees.PyTree, data_state: dict[str, Any], meta: dict[str, Any]) -> None:
        """Begin to save; on return all arguments may be changed and the buffers of `state` donated.

        A save still in flight is waited for first. A step that is there already, intact, with the same leaves and the
        same data position, is left as it is and not acknowledged again; a damaged one is moved aside to STEP.damaged.
        Every process calls this at the same step. Raises TrainingStopped when the previous save failed or this one
        cannot begin, ValueError for values that are not JSON or leaves that are not arrays.
        """
        self._wait()
        self.raise_if_failed()
        made = document.make(step, leaves.table(state), data_state, meta)
        directory = layout.path_of(self._root, step)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if not self._make_way(directory, made, needed):
            return
        try:
            self._writer.start(_partial(directory) / STATE, state)
        except Exception as error:
            self._fail(directory, needed, error)
            self.raise_if_failed()
        self._thread = threading.Thread(target=self._finish, args=(directory, made, needed), name=f"save {step}")
        self._thread.start()

    def raise_if_failed(self) -> None:
        """Raise TrainingStopped, once, if a save has failed since the last call."""
        if self._failure:  # first, or a failure that arrives between two lines would be lost
            failed, self._failure = self._failure, None
            raise failed

    def close(self) -> None:
        """Wait for the save in flight and free the threads; raises TrainingStopped if it failed."""
        self._wait()
        self._writer.close()
        self.raise_if_failed()

    def _wait(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None

    def _make_way(self, directory: Path, made: Document, needed: int) -> bool:
        """Prepare the partial directory and return whether there is anything to write; process 0 decides for all."""
        verdict = _WRITE
        if self._is_first:
            try:
                if _is_saved(directory, made):
                    verdict = _NOTHING_TO_DO
                else:
                    failure.check_room(self._root, needed)
                    shutil.rmtree(_partial(directory), ignore_errors=True)
                    _partial(directory).mkdir()
            except (OSError, AssetError) as error:
                self._fail(directory, needed, error)
                verdict = _FAILED
        if jax.process_count() > 1:
            verdict = int(multihost_utils.broadcast_one_to_all(np.int32(verdict)))
        self.raise_if_failed()
        if verdict == _FAILED:
            raise TrainingStopped(f"process 0 could not begin to save {directory}; its message says why")
        return verdict == _WRITE

    def _finish(self, directory: Path, made: Document, needed: int) -> None:
        try:
            self._writer.wait()  # for the arrays of all processes
            if not self._is_first:
                return
            document.write(_partial(directory), made)
            written = manifest.write(_partial(directory))
            layout.rename(_partial(directory), directory)
        except Exception as error:
            self._fail(directory, needed, error)
            return
        self._verified[made.step] = made.meta
        try:
            self._on_saved(made.step, written)
            retention.apply(self._root, self._rules, self._verified)
        except Exception as error:
            self._failure = failure.after_save(directory, error)
            self._failure.__cause__ = error

    def _fail(self, directory: Path, needed: int, error: Exception) -> None:
        """Note what went wrong, whatever it was, for the thread that trains; and give the space back."""
        self._failure = failure.stopped(directory, needed, error)
        self._failure.__cause__ = error
        if self._is_first:
            retention.discard(_partial(directory))


def _partial(directory: Path) -> Path:
    return layout.with_suffix(directory, layout.SAVING)


def _is_saved(directory: Path, made: Document) -> bool:
    """Return whether the same checkpoint is there; what is damaged is moved out of the way."""
    if not os.path.lexists(directory):
        return False
    try:
        found = _load(directory)
    except AssetError as error:
        aside = layout.move_aside(directory)
        console.warn(f"{error}; it is now {aside.name}, for you to look at and delete")
        return False
    if (found.leaves, found.data_state) != (made.leaves, made.data_state):
        raise AssetError("there is an intact checkpoint of that step with other contents, which is not overwritten")
    return True


def _load(directory: Path) -> Found:
    return _found(directory, manifest.verify(directory))


def _found(directory: Path, listed: Manifest) -> Found:
    read = document.read(directory)
    return Found(
        step=read.step,
        path=directory,
        meta=read.meta,
        data_state=read.data_state,
        leaves=read.leaves,
        versions=read.versions,
        manifest=listed,
        skipped=[],
    )
