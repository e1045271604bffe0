"""A save that takes too long ends the process: a thread that waits in the kernel for a dead disk ends for nobody."""

import contextlib
import os
import threading
from collections.abc import Callable

from codex_jax import console
from codex_jax.errors import CodexError, TrainingStopped


NOTE_SECS = 5.0


class Deadline:
    """Runs from `begin` to `end`; when `secs` are over in between, says so and ends the process with exit code 4.

    `note(reason)` is called before, to write down why, and waited for a few seconds only: its file may be on the same
    disk. Nothing here touches a disk.
    """

    def __init__(self, secs: float, note: Callable[[str], None]) -> None:
        self._secs, self._note = secs, note
        self._timer: threading.Timer | None = None
        self._doing = ""

    def begin(self, what: str) -> None:
        """Start the clock for `what`, the subject of the message."""
        self._timer = threading.Timer(self._secs, self._over, args=(what,))
        self._timer.daemon = True
        self._timer.start()

    def now(self, doing: str) -> None:
        """Remember what is being done, for the message."""
        self._doing = doing

    def end(self) -> None:
        """Stop the clock, if it runs."""
        if self._timer:
            self._timer.cancel()

    def _over(self, what: str) -> None:
        reason = (
            f"{what} hangs: after checkpoint.max_secs={self._secs:g} s it is still {self._doing}. Older checkpoints "
            "are untouched; look at the disk, or raise checkpoint.max_secs, and run the same command again to go on "
            "from the newest"
        )
        console.fail(reason)
        writing = threading.Thread(target=self._write_down, args=(reason,), daemon=True)
        writing.start()
        writing.join(NOTE_SECS)
        os._exit(TrainingStopped.exit_code)

    def _write_down(self, reason: str) -> None:
        with contextlib.suppress(CodexError):  # that a disk refuses is no news here
            self._note(reason)
