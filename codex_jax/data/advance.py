"""Whether the shards of a store come on: who makes one notes it in memory that the parent of all sees, and looks at."""

import multiprocessing
import os
from typing import Any

import psutil

from codex_jax.data import processes


# The process, the shard it makes, and how often that has come on.
_WIDTH = 3
_own: Any = None
"""The cells that this process writes into, and where its own begin."""


class Board:
    """Cells of each process that makes shards; it can be given to one that starts."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._cells: Any = context.RawArray("q", [0, -1, 0] * count)
        self._taken: Any = context.Value("i", 0)

    def take(self) -> None:
        """Give the next cells to this process: `begin` and `note` write into them from now on."""
        global _own
        with self._taken.get_lock():
            _own = self._cells, self._taken.value * _WIDTH
            self._taken.value += 1

    def seen(self, shard: int) -> list[int]:
        """Return the cells of who makes a shard, of all where nobody has begun it: they change while it comes on."""
        cells = list(self._cells)
        rows = (cells[at : at + _WIDTH] for at in range(0, len(cells), _WIDTH))
        return next((row for row in rows if row[1] == shard), cells)


def begin(shard: int) -> None:
    """Note that this process begins a shard."""
    cells, place = _own
    cells[place], cells[place + 1] = os.getpid(), shard
    note()


def note() -> None:
    """Note that the shard this process makes has come on; nobody looks where none is made."""
    if _own:
        cells, place = _own
        cells[place + 2] += 1


class Watch:
    """Counts how long a shard that is waited for has not come on.

    In looks, not by the clock: time in which this process itself is stopped is no wait.
    """

    def __init__(self, board: Board, most_looks: float) -> None:
        """`most_looks` may pass without a change; 0: any number."""
        self._board, self._most = board, most_looks
        self._seen: list[int] = []
        self._looks = 0

    def is_late(self, shard: int) -> bool:
        """Look at a shard, and return whether it has not come on for too long."""
        seen = self._board.seen(shard)
        self._looks = self._looks + 1 if seen == self._seen else 0
        self._seen = seen
        if is_late := 0 < self._most < self._looks:
            self._looks = 0
        return is_late

    def who(self, shard: int) -> str:
        """Say who makes a shard, and how that process is."""
        process, found, _ = self._board.seen(shard)[:_WIDTH]
        if found != shard:
            return f"no process has begun it{processes.states()}"
        try:
            return f"process {process}, which makes it, is {psutil.Process(process).status()}"
        except psutil.Error:
            return f"process {process}, which makes it, is gone"
