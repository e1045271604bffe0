"""Ends the process, with one message and exit code 4, when something that it waits for does not come.

A thread of its own looks at the clock: the one that waits may be deep in a library, where no exception reaches it.
"""

import contextlib
import dataclasses
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator

from codex_jax import exits
from codex_jax.errors import TrainingStopped


_LOOK_EVERY_SECS = 0.2


@dataclasses.dataclass
class _Watched:
    """What must end in time."""

    what: str
    began: float
    limit: float
    key: str
    left: float


class Watchdog:
    """Watches what threads of this process do, each until it is done."""

    def __init__(self, end: Callable[[int], None] = exits.at_once) -> None:
        """`end(code)` ends the process from any thread."""
        self.tell: Callable[[str], None] = lambda message: None
        """writes down why the process ends; it is given a few seconds"""
        self._end = end
        self._watched: dict[object, _Watched] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def forget(self) -> None:
        """Tell nobody any more: who was told is gone."""
        self.tell = lambda message: None

    @contextlib.contextmanager
    def watch(self, what: str, secs: float, key: str) -> Iterator[Callable[[], None]]:
        """End the process unless the block ends within `secs` (0: no limit) of its begin, or of the last renewal.

        Yields what is called to renew. `what` begins the message: "step 12"; `key` names the setting that limits it.
        """
        one, token = _Watched(what, time.time(), secs, key, secs), object()

        def renew() -> None:
            one.began, one.left = time.time(), secs

        if secs:
            with self._lock:
                self._watched[token] = one
        try:
            yield renew
        finally:
            with self._lock:
                self._watched.pop(token, None)

    def _look(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_LOOK_EVERY_SECS)
            now = time.monotonic()
            # A process that was itself stopped (Ctrl-Z, a snapshot of the machine) is not late for it.
            passed, last = min(now - last, 2 * _LOOK_EVERY_SECS), now
            with self._lock:
                late = [one for one in self._watched.values() if self._is_late(one, passed)]
            if late:
                self._stop(late[0])
                return

    @staticmethod
    def _is_late(one: _Watched, passed: float) -> bool:
        one.left -= passed
        return one.left <= 0

    def _stop(self, late: _Watched) -> None:
        since = time.strftime("%H:%M:%S", time.localtime(late.began))
        message = (
            f"{late.what} has not ended within {late.limit:g} s ({late.key}), since {since}: it hangs, and the process "
            "ends. What was saved stands; run the same command again, with a higher limit if it was only slow"
        )
        os.write(2, f"codex_jax: {message}\n".encode())  # not by print, which what hangs may have locked
        if faulthandler.is_enabled():
            faulthandler.dump_traceback(2, all_threads=True)
        exits.say_last(lambda: self.tell(message))
        self._end(TrainingStopped.exit_code)
