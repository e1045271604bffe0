"""SIGTERM and SIGINT become a request that the program answers at its next safe point."""

import os
import signal
import threading

from codex_jax import exits
from codex_jax.errors import Interrupted


class StopRequest:
    """Catches both signals from the moment it is made.

    A thread hears them at once, though the program may be in a library, where Python runs no handler of its own.
    """

    def __init__(self) -> None:
        self.signal = ""
        """its name; a repeated one changes nothing"""
        self.may_end_at_once = True
        """until there is something to save, a second signal ends the process where it is"""
        self._heard, told = os.pipe()
        os.set_blocking(told, False)  # as Python asks
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)  # or the signal would have its way
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def raise_if_asked(self, where: str) -> None:
        """Raise Interrupted when a signal came; call it only where everything worth keeping is saved."""
        if self.signal:
            raise self.interrupted(where)

    def interrupted(self, where: str) -> Interrupted:
        """Return the error that says where the signal was answered."""
        return Interrupted(f"{self.signal} received {where}; run the same command again to go on")

    def _listen(self) -> None:
        while number := os.read(self._heard, 1):
            self._note(signal.Signals(number[0]))

    def _note(self, number: signal.Signals) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            return  # another's handler, of which Python tells all alike
        if self.signal and self.may_end_at_once:
            _say(f"{number.name} again: ended at once, there was nothing to save; run the same command again")
            exits.at_once(Interrupted.exit_code)
        if not self.signal:
            ends = "; once more ends it at once" if self.may_end_at_once else ""
            _say(f"{number.name}: finishing what is under way and saving{ends}")
        self.signal = number.name


def _say(text: str) -> None:
    os.write(2, f"codex_jax: {text}\n".encode())  # not by print: its lock may be held by who is being ended
