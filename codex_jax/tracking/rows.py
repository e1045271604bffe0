"""A file of rows that only grows, one JSON object a line, in parts where it is long; a torn end is repaired.

    metrics.0001.ndjson   the oldest part, metrics.0002.ndjson the next ...
    metrics.ndjson        what is written now

Whoever reads `metrics.ndjson` reads its parts first. Going back to an earlier row writes all that is kept of the first
part that changes, and of those after it, to `metrics.0002.rewound`: once that is there it stands for all of them, and
a crash before they are gone changes nothing.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from codex_jax import atomic
from codex_jax.errors import AssetError
from codex_jax.tracking import chain
from codex_jax.tracking.chain import Head


METRICS = "metrics.ndjson"
EVENTS = "events.ndjson"
WAY_OUT = "Put back a good copy, or move the file away to go on without its history"


def lines(path: Path, until: int | None = None) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Yield every line with its row, of the first `until` bytes only if given; the row of a torn last line is None.

    Raises AssetError when the file is not there, or damaged before its last line.
    """
    rewound, end = _rewound(path), 0
    try:
        # First: parts that are set aside from here on hold nothing that this one does not.
        live = open(rewound or path, "rb")  # noqa: SIM115 (the `with` below would catch the consumer's errors too)
    except FileNotFoundError:
        raise AssetError(f"{path} is missing: is its directory the workdir of a run?") from None
    with live:
        for line, row in _of_all(path, _before(path, live, rewound), live):
            end += len(line)
            if until is not None and end > until:
                return
            yield line, row


def parts(path: Path) -> list[Path]:
    """Return the parts that were set aside, in order."""
    found = path.parent.glob(f"{path.stem}.*{path.suffix}")
    return sorted((part for part in found if part.suffixes[-2][1:].isdecimal()), key=_number)


def rewind(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Leave the rows to keep, in whole lines; what is like that already is not touched."""
    if not path.exists():
        return
    _settle(path)
    if path.name == EVENTS and (number := chain.broken_link(row for _, row in lines(path) if row)):
        counted = ", counted from that of its first part," if parts(path) else ""
        raise AssetError(
            f"{path} line {number}{counted} does not follow from the lines before it: events were removed or changed. "
            f"{WAY_OUT}"
        )
    files = [*parts(path), path]
    as_kept = (row is not None and line.endswith(b"\n") and keep(row) for line, row in lines(path))
    first = _first_changed(files, as_kept)
    if first is None:
        return
    head = Head()
    skipped = sum(file.stat().st_size for file in files[:first])
    with atomic.replacing(path.with_name(f"{path.stem}.{first + 1:04}.rewound")) as out:
        for line, row in lines(path):
            if row is not None and keep(row):
                if path.name == EVENTS:
                    head = head.after(row)
                    row["chain"] = head.chain
                if skipped <= 0:
                    out.write(encoded(row))
            skipped -= len(line)
    _settle(path)


class AppendFile:
    """A file that grows by whole lines: a line that does not fit is taken back.

    With `rotate_bytes` one that has grown so large is set aside as a part.
    """

    def __init__(self, path: Path, rotate_bytes: int) -> None:
        self._path, self._rotate_bytes = path, rotate_bytes
        self._syncing = threading.Lock()
        self._fd = self._open()
        self._before = sum(part.stat().st_size for part in parts(path))

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line; TrainingStopped when the file system refuses."""
        rest = memoryview(encoded(row))
        end = os.fstat(self._fd).st_size
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            os.ftruncate(self._fd, end)
            raise atomic.refused(self._path, error) from error
        if 0 < self._rotate_bytes <= os.fstat(self._fd).st_size:
            self._rotate()

    def size(self) -> int:
        """Return the bytes of all parts and of this one."""
        return self._before + os.fstat(self._fd).st_size

    def sync(self) -> None:
        """Return when every line survives a power cut; from any thread."""
        try:
            with self._syncing:
                os.fsync(self._fd)
        except OSError as error:
            raise atomic.refused(self._path, error) from error

    def close(self) -> None:
        """Close it; lines are on their way to the disk since they were written."""
        os.close(self._fd)

    def _rotate(self) -> None:
        self.sync()
        try:
            with self._syncing:
                set_aside(self._path)
                os.close(self._fd)
                self._before = sum(part.stat().st_size for part in parts(self._path))
                self._fd = self._open()
        except OSError as error:
            raise atomic.refused(self._path, error) from error

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def set_aside(path: Path) -> None:
    """Make the file its newest part, and an empty one in its place: at no moment is it missing, or a row in neither."""
    older = parts(path)
    if not (older and older[-1].samefile(path)):  # else a crash came between
        number = _number(older[-1]) + 1 if older else 1
        os.link(path, path.with_name(f"{path.stem}.{number:04}{path.suffix}"))
    with atomic.replacing(path):
        pass


def encoded(row: Mapping[str, Any]) -> bytes:
    """Return a row as its line."""
    return (json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n").encode("ascii")


def _of_all(path: Path, older: list[Path], live: BufferedReader) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    for part in older:
        with open(part, "rb") as file:
            yield from _of(path, part.name, file, is_last=False)
    yield from _of(path, path.name, live, is_last=True)


def _of(path: Path, name: str, file: BufferedReader, *, is_last: bool) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    for number, line in enumerate(file, 1):
        row = _parse(line, path.name)
        if row is None and (file.read(1) or not is_last):
            raise AssetError(
                f"{path.with_name(name)} line {number} is damaged: it is no row of a ledger, and rows follow it. "
                f"{WAY_OUT}"
            )
        yield line, row


def _parse(line: bytes, name: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind, holds = ("event", str) if name == EVENTS else ("metrics", dict)
    if isinstance(row, dict) and isinstance(row.get("step"), int) and isinstance(row.get(kind), holds):
        return row
    return None


def _before(path: Path, live: BufferedReader, rewound: Path | None) -> list[Path]:
    """Return the parts whose rows come before those of the open file."""
    found = parts(path)
    if rewound:
        return [part for part in found if _number(part) < _number(rewound)]
    now = os.fstat(live.fileno())
    same = [os.path.samestat(part.stat(), now) for part in found]
    return found[: same.index(True)] if True in same else found  # it was set aside since it was opened


def _first_changed(files: list[Path], as_kept: Iterator[bool]) -> int | None:
    """Return the place of the first file with a line that is not as it is to be kept."""
    for place, file in enumerate(files):
        with open(file, "rb") as opened:
            for _ in opened:
                if not next(as_kept):
                    return place
    return None


def _settle(path: Path) -> None:
    """Finish what a crash has left half done."""
    older = parts(path)
    if rewound := _rewound(path):
        for part in older:
            if _number(part) >= _number(rewound):
                part.unlink()
        os.replace(rewound, path)
        atomic.sync(path.parent)
    elif older and older[-1].samefile(path):
        set_aside(path)


def _rewound(path: Path) -> Path | None:
    return next(path.parent.glob(f"{path.stem}.*.rewound"), None)


def _number(part: Path) -> int:
    return int(part.name.split(".")[1])
