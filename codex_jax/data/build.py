"""Makes a store: shards by several processes, each whole or not there, so that a build can be stopped anywhere."""

import concurrent.futures
import contextlib
import fcntl
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, BinaryIO

from codex_jax import amounts, atomic, digest
from codex_jax.console import say
from codex_jax.data import origin, processes, shard, store
from codex_jax.data.origin import Origin
from codex_jax.data.plan import SPLITS, Plan
from codex_jax.data.report import Quarantine, Report
from codex_jax.errors import AssetError, TrainingStopped


PLAN = "plan.json"
# Not the name that a run's directory is held by: a build in it would wait for itself.
_LOCK = ".build.lock"
_SAY_EVERY_SECS = 2.0
_ASK_EVERY_SECS = 0.2
_worker: dict[str, Any] = {}
"""What a process of the pool is given once, and not with every shard: the plan lists all files."""


Make = Callable[[Plan, Path], Iterator[shard.Facts]]


def build(plan: Plan, directory: Path, make: Make, between: Callable[[], None]) -> store.Store:
    """Make the store of a plan in `directory`, or go on making it, and return it.

    `make` makes the shards and yields their facts in order, as `in_processes` does. `between` is called several times
    a second while another process has the directory, and may raise to stop. Raises AssetError when the directory holds
    something else, TrainingStopped when too many documents could not be read, the disk refuses or a process was killed.
    """
    with _alone(directory, between):
        if not (directory / store.NAME).exists():
            sources = origin.look(plan.corpora)
            _begin(plan, directory, sources)
            say(f"store      {plan.total:,} shards, into {directory}")
            shards = list(_judged(plan, directory, make(plan, directory)))
            say(f"store      reading {amounts.counted(len(sources), 'file')} once more, for their SHA-256")
            store.write(directory, plan.content, origin.read(sources), shards)
        return store.open_store(directory, plan)


def in_processes(plan: Plan, directory: Path, workers: int, between: Callable[[], None]) -> Iterator[shard.Facts]:
    """Make every shard that is missing and yield the facts of all in their order; without workers, in this process.

    `between` may raise to stop: the shards that are being made are finished, and kept.
    """
    if not workers:
        for number in range(plan.total):
            between()
            yield shard.build_shard(plan, number, directory)
        return
    with concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin_worker, (plan, directory)
    ) as pool:
        made = [pool.submit(_build, number) for number in range(plan.total)]
        try:
            for future in made:
                while not concurrent.futures.wait([future], _ASK_EVERY_SECS).done:
                    between()
                yield future.result()
        except BrokenProcessPool as error:
            raise TrainingStopped(
                f"one of {workers} processes was killed, perhaps for want of memory: each holds a shard. Take fewer; "
                "the same command goes on with the shards that are missing"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # those at work finish their shard


def _begin(plan: Plan, directory: Path, sources: list[Origin]) -> None:
    """Clear the way for a plan: what was made for another, or left half made, is removed."""
    stated = {"content": dict(plan.content), "sources": [file._asdict() for file in sources]}
    path = directory / PLAN
    try:
        if path.exists() and path.read_text() != _text(stated):
            say(f"store      {directory} was begun with other data or settings: it is begun again")
            shutil.rmtree(directory / "shards")
        elif not path.exists() and [one for one in directory.iterdir() if one.name != _LOCK]:
            raise AssetError(f"{directory} is not empty and no store; name another directory in data.store")
        (directory / "shards").mkdir(exist_ok=True)
        for draft in (directory / "shards").glob("*.partial"):
            shutil.rmtree(draft)
    except OSError as error:
        raise atomic.refused(directory, error) from error
    with atomic.replacing(path) as file:
        file.write(_text(stated).encode())


def _text(stated: dict[str, Any]) -> str:
    return json.dumps({**stated, "root": digest.of_json(stated)}, indent=1, sort_keys=True) + "\n"


def _judged(plan: Plan, directory: Path, made: Iterator[shard.Facts]) -> Iterator[shard.Facts]:
    """Pass facts on, watching the share of rows that could not be read, and say how far it is."""
    watch = {split: Quarantine(plan.encoders[split].reader.data.max_quarantined) for split in SPLITS}
    began = said = time.monotonic()
    done = Report()
    for number, facts in enumerate(made):
        report = facts.report()
        done.add(report)
        if report.quarantined:
            report.rows = shard.quarantined(shard.directory_of(directory, number))
        last = number + 1 in (plan.num_shards["train"], plan.total)
        watch[facts.split].check([report], complete=last)
        if (now := time.monotonic()) - said > _SAY_EVERY_SECS or number + 1 == plan.total:
            rate, said = done.bytes / 1e6 / (now - began), now
            say(f"store      shard {number + 1:,} of {plan.total:,}  {done.tokens:,} tokens  {rate:.1f} MB/s")
        yield facts


def _begin_worker(plan: Plan, directory: Path) -> None:
    processes.begin()
    _worker.update(plan=plan, directory=directory)


def _build(number: int) -> shard.Facts:
    return shard.build_shard(_worker["plan"], number, _worker["directory"])


@contextlib.contextmanager
def _alone(directory: Path, between: Callable[[], None]) -> Iterator[None]:
    """Hold the directory; another process that builds the same store is waited for."""
    with _open_lock(directory) as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                between()
                time.sleep(_ASK_EVERY_SECS)
        yield


def _open_lock(directory: Path) -> BinaryIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return open(directory / _LOCK, "ab")
    except OSError as error:
        raise atomic.refused(directory, error) from error
