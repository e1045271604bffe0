"""A tape: a file that is read once from its beginning to its end, as compressed files and tables in text must be.

Its units are equal ranges of its bytes as they are on disk, so that their number is known without reading. A record
belongs to the unit in which its last byte was read. Reading on costs what lies between; going back means to begin anew.
"""

import dataclasses
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codex_jax import amounts, config, inflate
from codex_jax.data import documents, opening, report
from codex_jax.data.documents import BadRow, Document, Record


if TYPE_CHECKING:
    from codex_jax.data.sources import Follower


@dataclasses.dataclass
class _Head:
    """Where a tape is."""

    position: int = 0
    """bytes of the file that have been read"""
    offset: int = 0
    """bytes of text that came of them"""
    line: int = 1


class Tape:
    """One file, played forwards; holds it open, a decoder and the record at hand. Belongs to one thread."""

    def __init__(self, path: str, seen: opening.Seen, num_units: int, source: "Follower", data: config.Data) -> None:
        """`seen` is what the file was when the run began."""
        self.path, self.data = path, data
        self.next = 0
        """the unit that can be read without going back"""
        self._seen = seen
        self._num_units = num_units
        self._head = _Head()
        # Not a method: a generator that knew this object would keep the file open until the next garbage collection.
        self._records = _play(path, seen.size, source, data, self._head)
        self._ahead: tuple[int, Record] | None = None

    def read(self, unit: int) -> Iterator[Document | BadRow]:
        """Yield what a unit holds; AssetError when the file is not what it was, OSError when it cannot be read."""
        if opening.look(self.path) != self._seen:
            raise opening.changed(self.path, self._seen.size)
        self.next = self._num_units  # until all of it has been taken
        while (record := self._ahead or self._take()) and record[0] <= unit:
            self._ahead = None
            if record[0] == unit:
                yield record[1]()
        self._ahead, self.next = record, unit + 1

    def _take(self) -> tuple[int, Record] | None:
        record = next(self._records, None)
        # The last byte read counts, not the next: the end of the file is in its last unit.
        return record and (max(self._head.position - 1, 0) * self._num_units // self._seen.size, record)


class Slot(threading.local):
    """The tape that a thread has in use, if any; stays behind where its owner is sent to another process."""

    tape: Tape | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Slot, ()


def _play(path: str, size: int, source: "Follower", data: config.Data, head: _Head) -> Iterator[Record]:
    try:
        yield from source.follow(_chunks(path, size, data, head), data)
    except inflate.Damaged as damage:
        left = size - damage.position
        unread = f", {amounts.counted(left, 'byte')} of {size:,} as they are on disk" if left else ""  # none if cut off
        reason = f"{report.REST}{unread}: {damage}"
        yield documents.read_already(BadRow(head.offset, reason, head.line))


def _chunks(path: str, size: int, data: config.Data, head: _Head) -> Iterator[bytes]:
    for chunk, head.position in _pieces(path, size, data):
        head.offset += len(chunk)
        head.line += chunk.count(b"\n")
        yield chunk


def _pieces(path: str, size: int, data: config.Data) -> Iterator[tuple[bytes, int]]:
    if suffix := inflate.suffix_of(path):
        yield from inflate.inflate(lambda: opening.blocks(path, size), suffix, data.max_expansion)
        return
    position = 0
    for block in opening.blocks(path, size):
        position += len(block)
        yield block, position
