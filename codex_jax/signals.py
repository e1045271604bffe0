"""SIGTERM and SIGINT become a request that the program answers at its next safe point."""

import os
import signal
from types import FrameType

from codex_jax.errors import Interrupted


class StopRequest:
    """Catches both signals from the moment it is made; repeated signals change nothing."""

    def __init__(self) -> None:
        self.signal = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.signal:  # written at once, and not by print, which the signal may have interrupted
            os.write(2, f"codex_jax: {signal.Signals(number).name}: finishing the step and saving\n".encode())
        self.signal = signal.Signals(number).name

    def raise_if_asked(self, where: str) -> None:
        """Raise Interrupted when a signal came; call it only where everything worth keeping is saved."""
        if self.signal:
            raise Interrupted(f"{self.signal} received {where}; run the same command again to go on")
