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


def _nobody(message: str) -> None:
    pass


@dataclasses.dataclass
class Watched:
    """What must end in time, and whom that is told beside the watchdog when it does not."""

    what: str
    limit: float
    key: str
    tell: Callable[[str], None]
    doing: str = ""
    """what it is at, for the message; set it as it goes on"""
    began: float = dataclasses.field(default_factory=time.time)
    left: float = 0.0

    def renew(self) -> None:
        """Begin again."""
        self.began, self.left = time.time(), self.limit

    def is_late(self, passed: float) -> bool:
        """Return whether its time is over, of which so many seconds have passed since the last call."""
        self.left -= passed
        return self.left <= 0

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.began))
        doing = f" ({self.doing})" if self.doing else ""
        return (
            f"{self.what}{doing} has not ended within {self.limit:g} s ({self.key}), since {since}: it hangs, and the "
            "process ends. What was saved stands; run the same command again, with a higher limit if it was only slow"
        )


class Watchdog:
    """Watches what threads of this process do, each until it is done."""

    def __init__(self, end: Callable[[int], None] = exits.at_once) -> None:
        """`end(code)` ends the process from any thread."""
        self.tell: Callable[[str], None] = _nobody
        """writes down why the process ends; it is given a few seconds"""
        self._end = end
        self._watched: list[Watched] = []
        self._lock = threading.Lock()
        self._is_looking = False

    def forget(self) -> None:
        """Tell nobody any more: who was told is gone."""
        self.tell = _nobody

    def begin(self, what: str, secs: float, key: str, tell: Callable[[str], None] = _nobody) -> Watched:
        """End the process unless `end` comes, of any thread, within `secs` (0: no limit) from now or the last renewal.

        `what` begins the message: "step 12"; `key` names the setting that limits it.
        """
        one = Watched(what, secs, key, tell)
        one.renew()
        with self._lock:
            if secs:
                self._watched.append(one)
            if self._watched and not self._is_looking:
                self._is_looking = True
                threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        return one

    def end(self, one: Watched) -> None:
        """Watch it no more; a second call does nothing."""
        with self._lock:
            self._watched = [other for other in self._watched if other is not one]

    @contextlib.contextmanager
    def watch(self, what: str, secs: float, key: str) -> Iterator[Watched]:
        """Watch a block, which may renew what it is given."""
        one = self.begin(what, secs, key)
        try:
            yield one
        finally:
            self.end(one)

    def _look(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_LOOK_EVERY_SECS)
            now = time.monotonic()
            # A process that was itself stopped (Ctrl-Z, a snapshot of the machine) is not late for it.
            passed, last = min(now - last, 2 * _LOOK_EVERY_SECS), now
            with self._lock:
                late = [one for one in self._watched if one.is_late(passed)]
                if not self._watched:
                    self._is_looking = False
                    return
            if late:
                self._stop(late[0])
                return

    def _stop(self, late: Watched) -> None:
        message = str(late)
        os.write(2, f"codex_jax: {message}\n".encode())  # not by print, which what hangs may have locked
        if faulthandler.is_enabled():
            faulthandler.dump_traceback(2, all_threads=True)
        exits.say_last(lambda: late.tell(message))
        exits.say_last(lambda: self.tell(message))
        self._end(TrainingStopped.exit_code)
