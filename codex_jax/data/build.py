"""Makes a store: shards by several processes, each whole or not there, so that a build can be stopped anywhere."""

import concurrent.futures
import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from codex_jax import amounts, atomic, digest, exits
from codex_jax.console import say
from codex_jax.data import advance, origin, processes, shard, store
from codex_jax.data.ahead import Ahead
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
    something else, TrainingStopped when too many documents could not be read, the disk refuses, a process was killed or
    one hangs.
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


class Work(NamedTuple):
    """What shards are made of, and who is asked while they are waited for."""

    plan: Plan
    directory: Path
    board: advance.Board
    between: Callable[[], None]
    look: Callable[[int], None]
    """raises TrainingStopped when a shard has not come on for too long"""


def in_processes(
    plan: Plan, directory: Path, *, workers: int, between: Callable[[], None], wait_secs: float
) -> Iterator[shard.Facts]:
    """Make every shard that is missing and yield the facts of all in their order; without workers, in this process.

    `between` may raise to stop: the shards that are being made are finished, and kept. TrainingStopped when one does
    not come on for `wait_secs` (0: no limit), the setting data.max_wait_secs.
    """
    board = advance.Board(max(workers, 1))
    watch = advance.Watch(board, wait_secs / _ASK_EVERY_SECS)

    def look(number: int) -> None:
        if watch.is_late(number):
            stuck = _stuck(plan, number, watch.who(number), wait_secs)
            exits.kill_workers()
            raise stuck

    work = Work(plan, directory, board, between, look)
    yield from _by_workers(work, workers) if workers else _by_a_thread(work)


def _by_a_thread(work: Work) -> Iterator[shard.Facts]:
    """Make the shards one by one, in a thread: it is left behind when it hangs."""
    work.board.take()
    making = Ahead(_Shards(work), 0)
    try:
        for number in range(work.plan.total):
            work.between()
            while (made := making.get(_ASK_EVERY_SECS)) is None:
                work.look(number)
            yield made.item
    finally:
        if not making.close(_ASK_EVERY_SECS):
            exits.leave_behind()


class _Shards:
    """Makes the next shard when it is asked for."""

    def __init__(self, work: Work) -> None:
        self._work, self._next = work, 0

    def __next__(self) -> shard.Facts:
        self._next += 1
        return _make(self._work.plan, self._next - 1, self._work.directory)

    def get_state(self) -> dict[str, int]:
        return {"shard": self._next}


def _by_workers(work: Work, workers: int) -> Iterator[shard.Facts]:
    given = (work.plan, work.directory, work.board)
    pool = concurrent.futures.ProcessPoolExecutor(workers, processes.Context(), _begin_worker, given)
    made = [pool.submit(_build, number) for number in range(work.plan.total)]
    try:
        for number, future in enumerate(made):
            while not concurrent.futures.wait([future], _ASK_EVERY_SECS).done:
                work.between()
                work.look(number)
            yield future.result()
    except BrokenProcessPool as error:
        raise TrainingStopped(
            f"one of {workers} processes was killed, perhaps for want of memory: each holds a shard. Take fewer; "
            "the same command goes on with the shards that are missing"
        ) from error
    finally:
        _finish(pool, made, work.look)


def _finish(
    pool: concurrent.futures.ProcessPoolExecutor,
    made: Sequence["concurrent.futures.Future[shard.Facts]"],
    look: Callable[[int], None],
) -> None:
    """Let the processes finish the shards they are at, and end them: one that is stopped would not hear of it."""
    pool.shutdown(wait=False, cancel_futures=True)
    for number, future in enumerate(made):
        while not future.done():  # `wait` itself does not return for one that is cancelled
            concurrent.futures.wait([future], _ASK_EVERY_SECS)
            look(number)
    exits.kill_workers()
    pool.shutdown()


def _stuck(plan: Plan, number: int, who: str, wait_secs: float) -> TrainingStopped:
    encoder = plan.encoders[plan.split(number)]
    paths = list(dict.fromkeys(encoder.reader.corpus.paths(plan.units(number))))
    return TrainingStopped(
        f"shard {number + 1:,} of {plan.total:,} has not come on for data.max_wait_secs={wait_secs:g}: {who}; it is "
        f"read from {amounts.listed(paths)}. See to what hangs, or raise data.max_wait_secs where reading is only "
        "slow; the same command goes on with the shards that are missing"
    )


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


def _begin_worker(plan: Plan, directory: Path, board: advance.Board) -> None:
    processes.begin()
    board.take()
    _worker.update(plan=plan, directory=directory)


def _build(number: int) -> shard.Facts:
    return _make(_worker["plan"], number, _worker["directory"])


def _make(plan: Plan, number: int, directory: Path) -> shard.Facts:
    advance.begin(number)
    return shard.build_shard(plan, number, directory)


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
