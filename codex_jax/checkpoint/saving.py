"""Saves the train state without stopping for it; a checkpoint counts when all of it is on the disk under its name."""

import contextlib
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

from codex_jax import config, console, trees
from codex_jax.checkpoint import arrays, document, failure, finite, layout, leaves, manifest, retention, store
from codex_jax.checkpoint.document import Document
from codex_jax.checkpoint.manifest import Manifest
from codex_jax.checkpoint.retention import Meta, Rules
from codex_jax.checkpoint.store import STATE, Found
from codex_jax.errors import AssetError, CodexError, TrainingStopped
from codex_jax.watchdog import Watchdog, Watched


_WRITE, _NOTHING_TO_DO, _FAILED = range(3)


@dataclasses.dataclass(frozen=True)
class Policy:
    """What happens when a save does not come to its end."""

    go_on: bool = False
    """a save that fails is said and recorded, the next is tried; only if none succeeds after it, `close` raises"""
    max_secs: float = 3600.0
    """a save that takes longer ends the process, see `watchdog`"""


def policy(settings: config.Checkpoint) -> Policy:
    """Return what the settings ask for."""
    return Policy(go_on=settings.on_failure == "go_on", max_secs=settings.max_secs)


class Checkpointer:
    """Saves in the background and keeps of `root` what the rules name; use it as a context manager.

    `on_saved(step, manifest)` is the acknowledgement: it is called, on a background thread and on process 0 only, when
    all of a checkpoint is on the disk under its final name; `on_failed(reason)` says that one never will be. What
    killed saves left behind is deleted at the start and named in `removed`. `verified` is the checkpoint that was just
    read: it need not be verified again. `before_named()` flushes what must be on the disk before a checkpoint counts.
    """

    def __init__(
        self,
        root: Path,
        rules: Rules,
        on_saved: Callable[[int, Manifest], None],
        *,
        verified: Found | None = None,
        on_failed: Callable[[str], None] = lambda reason: None,
        policy: Policy = Policy(),
        watchdog: Watchdog | None = None,
        before_named: Callable[[], object] = lambda: None,
    ) -> None:
        self._root, self._rules, self._on_saved, self._on_failed = root, rules, on_saved, on_failed
        self._policy, self._before_named = policy, before_named
        self._watchdog = watchdog or Watchdog()
        self._watched: Watched  # the save under way
        self._is_first = jax.process_index() == 0
        self._thread: threading.Thread | None = None
        self._failure: TrainingStopped | None = None
        self._tolerated: TrainingStopped | None = None
        self._verified: dict[int, Meta] = {verified.step: verified.meta} if verified else {}
        self.removed: list[str] = []
        try:
            root.mkdir(parents=True, exist_ok=True)
            if self._is_first:
                self.removed = retention.sweep(root)
        except OSError as error:
            raise AssetError(f"{root} cannot hold checkpoints ({error.strerror}); choose another --workdir") from error
        self._writer = arrays.Writer(2 * policy.max_secs)  # a net below our own, which says more

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
        check = finite.Check(state)
        self._watched = self._watch(f"saving the checkpoint {directory}", "looking at what is there")
        if not self._begin(directory, made, needed, state):
            self._watchdog.end(self._watched)
            self.raise_if_failed()
            return
        self._thread = threading.Thread(target=self._finish, args=(directory, made, needed, check), name=f"save {step}")
        self._thread.start()

    def raise_if_failed(self) -> None:
        """Raise TrainingStopped, once, if a save has failed since the last call and the policy does not go on."""
        if self._failure:  # first, or a failure that arrives between two lines would be lost
            failed, self._failure = self._failure, None
            raise failed

    def close(self) -> None:
        """Wait for the save in flight and free the threads; raises TrainingStopped if the last save failed."""
        self._wait()
        self._watched = self._watch(f"ending the writes to {self._root}", "waiting for threads")
        try:
            self._writer.close()
        finally:
            self._watchdog.end(self._watched)
        self._failure, self._tolerated = self._failure or self._tolerated, None
        self.raise_if_failed()

    def _watch(self, what: str, doing: str) -> Watched:
        watched = self._watchdog.begin(what, self._policy.max_secs, "checkpoint.max_secs", self._note)
        watched.doing = doing
        return watched

    def _note(self, reason: str) -> None:
        with contextlib.suppress(CodexError):  # that a disk refuses is no news here
            self._on_failed(reason)

    def _wait(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None

    def _begin(self, directory: Path, made: Document, needed: int, state: trees.PyTree) -> bool:
        """Begin to write the arrays; return whether there is anything to finish."""
        if not self._make_way(directory, made, needed):
            return False
        self._watched.doing = "writing the arrays"
        try:
            self._writer.start(_partial(directory) / STATE, state)
        except Exception as error:
            self._fail(directory, needed, error)
            return False
        return True

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
        if verdict == _FAILED and not self._is_first:
            raise TrainingStopped(f"process 0 could not begin to save {directory}; its message says why")
        return verdict == _WRITE

    def _finish(self, directory: Path, made: Document, needed: int, check: finite.Check) -> None:
        try:
            written = self._complete(directory, made, check)
        except Exception as error:
            self._fail(directory, needed, error)
        else:
            if written:
                self._acknowledge(directory, made, written)
        finally:
            self._watchdog.end(self._watched)

    def _complete(self, directory: Path, made: Document, check: finite.Check) -> Manifest | None:
        """Wait for the arrays of all processes; the first makes a checkpoint of them and returns its manifest."""
        wrong = check.wrong()
        self._writer.wait()
        if wrong:
            raise failure.NotFinite(wrong)
        if not self._is_first:
            return None
        self._watched.doing = "flushing and hashing the files"
        document.write(_partial(directory), dataclasses.replace(made, is_finite=True))
        written = manifest.write(_partial(directory))
        self._before_named()
        self._watched.doing = "giving it its name"
        layout.rename(_partial(directory), directory)
        return written

    def _acknowledge(self, directory: Path, made: Document, written: Manifest) -> None:
        self._tolerated = None
        self._verified[made.step] = made.meta
        self._watched.doing = "recording it and deleting older ones; it is complete"
        try:
            self._on_saved(made.step, written)
            retention.apply(self._root, self._rules, self._verified)
        except Exception as error:
            self._failure = failure.after_save(directory, error)
            self._failure.__cause__ = error

    def _fail(self, directory: Path, needed: int, error: Exception) -> None:
        """Note what went wrong, whatever it was, for the thread that trains; and give the space back."""
        stopped = failure.stopped(directory, needed, error)
        stopped.__cause__ = error
        said = failure.tolerated(directory, needed, error)  # before the space is given back
        if self._is_first:
            retention.discard(_partial(directory))
            self._note(str(stopped))
        if self._policy.go_on and not isinstance(error, CodexError):  # those say that the state is wrong, not the disk
            console.warn(said)
            self._tolerated = stopped
        else:
            self._failure = stopped


def _partial(directory: Path) -> Path:
    return layout.with_suffix(directory, layout.SAVING)


def _is_saved(directory: Path, made: Document) -> bool:
    """Return whether the same checkpoint is there; what is damaged is moved out of the way."""
    if not os.path.lexists(directory):
        return False
    try:
        found = store.load(directory)
    except AssetError as error:
        aside = layout.move_aside(directory)
        console.warn(f"{error}; it is now {aside.name}, for you to look at and delete")
        return False
    if (found.leaves, found.data_state) != (made.leaves, made.data_state):
        raise AssetError("there is an intact checkpoint of that step with other contents, which is not overwritten")
    return True
