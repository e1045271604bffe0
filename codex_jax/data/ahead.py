"""Batches that a thread makes before they are asked for; who waits for one looks up now and then, and may leave."""

import queue
import threading
from typing import Any, Generic, NamedTuple, Protocol, TypeVar


T = TypeVar("T")
Item = TypeVar("Item", covariant=True)


class Positioned(Protocol[Item]):
    """An iterator that says where it is."""

    def __next__(self) -> Item:
        """Return the next item."""

    def get_state(self) -> dict[str, int]:
        """Return what comes next."""


class Made(NamedTuple, Generic[T]):
    """An item, and the position behind it."""

    item: T
    position: dict[str, int]


class Ahead(Generic[T]):
    """Keeps up to `count` items ready; nothing is made before the first is asked for.

    Grain's own prefetch waits without an end, for an item and for its thread when it is closed: a read that hangs would
    hang the program.
    """

    def __init__(self, source: Positioned[T], count: int) -> None:
        self._source = source
        self._made: queue.SimpleQueue[Made[T] | Exception] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(count)
        self._is_asked = self._is_over = False
        self._thread: Any = None

    def get(self, secs: float) -> Made[T] | None:
        """Return the next item; None when it does not come within `secs`: call again. Raises what the source did."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, name="batches", daemon=True)
            self._thread.start()
        if not self._is_asked:
            self._wanted.release()
            self._is_asked = True
        try:
            made = self._made.get(timeout=secs)
        except queue.Empty:
            return None
        self._is_asked = False
        if isinstance(made, Exception):
            raise made
        return made

    def close(self, secs: float) -> bool:
        """Let the thread finish what it is making; return whether it ended within `secs`."""
        self._is_over = True
        self._wanted.release()
        if self._thread is not None:
            self._thread.join(secs)
        return self._thread is None or not self._thread.is_alive()

    def _make(self) -> None:
        try:
            while True:
                self._wanted.acquire()
                if self._is_over:
                    return
                item = next(self._source)
                self._made.put(Made(item, self._source.get_state()))
        except Exception as error:
            self._made.put(error)
