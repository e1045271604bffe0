"""Run a sink on its own thread behind a bounded queue: it can be slow, hang or fail without harm to training."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from codex_jax.tracking.calls import Call
from codex_jax.tracking.sink import Sink, why


log = logging.getLogger(__name__)

CAPACITY = 10_000  # rows; a row is about 200 bytes
IDLE_SECS = 0.5  # without a new row for this long, the sink flushes
OPEN_SECS = 30.0  # what a sink may take to open (imports, tables) when the run ends before it has
ALONE_SECS = 15.0  # for which a sink waits for others that open

_opening = threading.Lock()


class Guard:
    """Owns one sink and the thread that calls it.

    `open_sink` and the iteration of `history` happen on that thread too. A sink that raises is dropped, with a warning;
    `problem` then says why. A full queue drops rows and counts them in `dropped`.
    """

    def __init__(
        self, name: str, open_sink: Callable[[], Sink], history: Iterator[Call], *, capacity: int = CAPACITY
    ) -> None:
        self.name = name
        self.problem = ""
        self.dropped = 0
        self._queue: queue.Queue[Call] = queue.Queue(capacity)
        self._status = ""  # set once, when the run ends; the thread then drains the queue and closes the sink
        self._started = time.monotonic()
        self._opened = threading.Event()
        # A daemon: a sink that hangs for ever must not keep the process alive.
        self._thread = threading.Thread(
            target=self._work, args=(open_sink, history), name=f"codex_jax sink {name}", daemon=True
        )
        self._thread.start()

    def put(self, method: str, *arguments: Any) -> None:
        """Hand a call to the sink and return at once."""
        if self.problem:
            return
        try:
            self._queue.put_nowait((method, arguments))
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("%s is too slow: rows are left out of it; the ledger has them all", self.name)

    def finish(self, status: str) -> None:
        """Ask the sink to take what is waiting and close; returns at once, `join` waits."""
        self._status = status
        # This wakes a waiting thread; one with a full queue is awake, and looks at the status when the queue is empty.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(("flush", ()))

    def wait_until_open(self) -> None:
        """Wait for a sink that still imports its package or makes its tables, at most OPEN_SECS since the start."""
        self._opened.wait(max(0.0, self._started + OPEN_SECS - time.monotonic()))

    def join(self, deadline: float) -> None:
        """Wait until the sink is closed, at most until `deadline` (time.monotonic); then give it up and say so."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._drop(f"did not finish in time; given up with {self._queue.qsize()} calls waiting")

    def _work(self, open_sink: Callable[[], Sink], history: Iterator[Call]) -> None:
        sink = None
        try:
            with _alone():
                sink = open_sink()
            self._opened.set()
            for method, arguments in history:
                getattr(sink, method)(*arguments)
            self._drain(sink)
            sink.close(self._status)
        except BaseException as error:  # SystemExit too: a third-party sink must not end its thread unnoticed
            self._drop(why(error))
            self._opened.set()
            if sink is not None:
                with contextlib.suppress(Exception):  # already reported as dropped
                    sink.close("failed")

    def _drain(self, sink: Sink) -> None:
        """Pass calls on until the run ends and none is waiting."""
        pending = True
        while not self._status or not self._queue.empty():
            try:
                method, arguments = self._queue.get(timeout=IDLE_SECS)
            except queue.Empty:
                if pending:
                    sink.flush()
                pending = False
                continue
            getattr(sink, method)(*arguments)
            pending = True

    def _drop(self, reason: str) -> None:
        if not self.problem:
            self.problem = reason
            log.warning(
                "%s is dropped: %s. Training goes on, and the ledger has every row: `codex-jax metrics replay` writes "
                "them later",
                self.name,
                reason,
            )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let no two sinks open at once, but for one that hangs.

    Packages parse code when they are imported, and up to Python 3.12 threads that do so at once disturb each other:
    "SystemError: AST constructor recursion depth mismatch".
    """
    is_alone = _opening.acquire(timeout=ALONE_SECS)
    try:
        yield
    finally:
        if is_alone:
            _opening.release()
