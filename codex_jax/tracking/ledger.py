"""The ledger: every metric and event of a run, one JSON object a line; the record that all other trackers copy.

    metrics.ndjson  {"run_id": "r1", "step": 20, "split": "train", "time": 1767225600.125, "metrics": {"loss": 4.25}}
    events.ndjson   {"run_id": "r1", "step": 20, "time": 1767225600.25, "event": "checkpoint.saved", "bytes": 1048576,
                     "chain": "5d1c..."}

`time` is seconds since 1970, UTC. A metric that is not finite is `null`, and its name is listed under "non_finite". One
of more than 64 bits is the nearest float, since no copy could hold it.
Lines are ASCII, so no value can break one. Only the last line can be torn; opening the ledger repairs it. How the lines
lie in files is told in `codex_jax/tracking/rows.py`.

`chain` is that of `codex_jax/tracking/chain.py`: an event that is lost shows.
"""

import math
import numbers
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_jax import atomic
from codex_jax.errors import AssetError
from codex_jax.tracking import chain
from codex_jax.tracking.chain import Head
from codex_jax.tracking.rows import EVENTS, METRICS, WAY_OUT, AppendFile, lines, rewind


# Events that a resumed run writes again, word for word, when it repeats the steps after its checkpoint.
REPLAYED = ("data.", "safety.", "sample", "step.", "histogram", "figure")
# The event of a process that lets through what the safety policy would stop; it is no decision about a text.
BYPASS = "safety.bypass_enabled"
# The event of a checkpoint that is on the disk as a whole.
SAVED = "checkpoint.saved"
# The event of one that never will be.
NOT_SAVED = "checkpoint.failed"
# Events of a file below the run directory: its name, place and SHA-256.
FIGURE, ARTIFACT = "figure", "artifact"
RESERVED = frozenset({"run_id", "step", "time", "event", "chain"})


class Ledger:
    """Appends rows to both files of a run directory; safe to call from several threads.

    `resume_step` is the step of the checkpoint the run goes on from. What was written after it is forgotten: metric
    rows, and events that the repeated steps write again; events of the run's life (started, resumed, saved) stay.
    0 says there is no checkpoint: the run starts over, and rows of step 0 go as well. With `owes_evaluation` an
    evaluation of that step is forgotten, which may have been written in part: it will be written again. `rotate_bytes`
    is the size at which a file is set aside as a part, see `rows`; 0: never.

    Every method raises TrainingStopped, naming the file, when the file system refuses.
    """

    def __init__(
        self, workdir: Path, *, run_id: str, resume_step: int, owes_evaluation: bool = False, rotate_bytes: int = 0
    ) -> None:
        self._run_id, self.resume_step = run_id, resume_step
        self._lock = threading.Lock()

        def known(row: dict[str, Any]) -> bool:
            is_owed = owes_evaluation and row["step"] == resume_step and is_of_evaluation(row)
            return 0 < resume_step >= row["step"] and not is_owed

        try:
            workdir.mkdir(parents=True, exist_ok=True)
            rewind(workdir / METRICS, known)
            rewind(workdir / EVENTS, lambda row: known(row) or not is_replayed(row["event"]))
            self._head = _head(workdir / EVENTS)
            self._metrics = AppendFile(workdir / METRICS, rotate_bytes)
            self._events = AppendFile(workdir / EVENTS, rotate_bytes)
            atomic.sync(workdir)
        except OSError as error:
            raise atomic.refused(Path(error.filename or workdir), error) from error

    def metrics(self, step: int, split: str, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Append one row of metrics and return it."""
        values = {name: _metric(value) for name, value in metrics.items()}
        row: dict[str, Any] = {"run_id": self._run_id, "step": step, "split": split, "time": _now(), "metrics": values}
        if missing := [name for name, value in values.items() if value is None]:
            row["non_finite"] = missing
        with self._lock:
            self._metrics.append(row)
        return row

    def event(self, name: str, step: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Append one event and return its row; `fields` hold what JSON can, and paths. Not finite numbers are null."""
        if clash := RESERVED & fields.keys():
            raise ValueError(f"event {name}: a field cannot be called {', '.join(sorted(clash))}")
        row = {"run_id": self._run_id, "step": step, "time": _now(), "event": name, **_plain(fields)}
        with self._lock:
            head = self._head.after(row)
            row["chain"] = head.chain
            self._events.append(row)
            self._head = head
        return row

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of metrics.ndjson and events.ndjson written so far, for `read(..., until=)`."""
        with self._lock:
            return self._metrics.size(), self._events.size()

    def sync(self) -> Head:
        """Return the head of the events when every row written so far survives a power cut."""
        head = self.head()
        # Without the lock: rows may be written while a slow disk flushes those before them.
        self._metrics.sync()
        self._events.sync()
        return head

    def head(self) -> Head:
        """Return the head of the events written so far."""
        with self._lock:
            return self._head

    def close(self) -> None:
        """Close both files; rows are on their way to the disk since they were written."""
        with self._lock:
            self._metrics.close()
            self._events.close()


def is_of_evaluation(row: Mapping[str, Any]) -> bool:
    """Return whether a row of metrics or an event is written by an evaluation."""
    if "event" in row:
        return row["event"] == "sample" or row.get("stage") == "output"
    return row["split"] in ("validation", "data", "safety")


def is_replayed(event: str) -> bool:
    """Return whether a resumed run writes this event again when it repeats a step."""
    return event.startswith(REPLAYED) and event != BYPASS


def refuse_to_lose_a_run(workdir: Path) -> None:
    """Raise AssetError when the ledger tells of checkpoints; call it where there is none to go on from.

    To begin again there would forget a run that was trained.
    """
    path = workdir / EVENTS
    if path.exists() and (saved := [row["step"] for row in read(path) if row["event"] == SAVED]):
        raise AssetError(
            f"{workdir} holds a run that was saved at step {saved[-1]}, but its checkpoints are gone; put them back, "
            "or choose another --workdir to begin anew"
        )


def refuse_lost_events(workdir: Path, step: int, meta: Mapping[str, Any]) -> None:
    """Raise AssetError when events are missing that were written before a checkpoint, whose `meta` has their head.

    Without the file nothing is refused: it was moved away.
    """
    path = workdir / EVENTS
    # Where a link is broken, opening the ledger says which.
    if path.exists() and not chain.broken_link(read(path)) and (wrong := lost_events(path, step, meta)):
        raise AssetError(f"{wrong}. {WAY_OUT}")


def lost_events(path: Path, step: int, meta: Mapping[str, Any]) -> str:
    """Say which events are missing of those before a checkpoint; empty for none, or when an older version saved it."""
    kept = meta.get("events")
    if kept is None or chain.holds(read(path), Head(**kept), step):
        return ""
    return (
        f"{path} has lost events: checkpoint {step} was saved after event {kept['number']}, whose chain is "
        f"{kept['chain']}, and among the {sum(1 for _ in read(path))} that are there it is not"
    )


def read(path: Path, *, until: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ledger file in order, one in memory at a time; of the first `until` bytes only, if given.

    A torn last line is left out: a run may be writing it. Raises AssetError for any other damage, naming the line.
    """
    for _, row in lines(path, until):
        if row is not None:
            yield row


def _head(path: Path) -> Head:
    head = Head()
    for row in read(path) if path.exists() else ():
        head = Head(head.number + 1, row["chain"])
    return head


def _now() -> float:
    return round(time.time(), 3)


def _metric(value: float) -> float | int | None:
    number = _number(value)
    if not isinstance(number, int) or -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return None


def _number(value: float) -> float | int | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, numbers.Number):
        return _number(value)  # type: ignore[arg-type]
    raise TypeError(f"an event cannot hold {value!r} of type {type(value).__name__}")
