"""A signal to any one process stops all of them after the same step.

Before each step all processes meet: each says whether a signal came to it, and none begins the step before all have
spoken. The meeting goes on while the devices are at work on the step before. A process that waits for data hears of a
signal to another at once: it gives up its wait, and comes.
"""

from codex_jax.hosts.team import Team
from codex_jax.signals import StopRequest


class Stopping:
    """Asks, before each step and between the parts of longer work, whether a signal came to any process."""

    def __init__(self, team: Team, stop: StopRequest) -> None:
        self._team, self._stop = team, stop
        self._own = ""

    def is_wanted(self) -> bool:
        """Return whether this process knows of a signal to any of them; the others may not know of it yet.

        `request` is a small number, of this process; that of the first counts. All processes get the same answer.
        Raises the error of another process that failed.
        """
        self._team.raise_if_failed()
        if self._stop.signal and not self._own:
            self._own = (
                self._stop.signal if self._team.count == 1 else f"{self._stop.signal} to process {self._team.index}"
            )
            self._team.ask_to_stop(self._own)
        return bool(self._own or self._team.asked)

    def is_agreed(self) -> bool:
        """Return whether to stop here; every process calls this at the same places, and all get the same answer.

        Raises the error of another process that failed.
        """
        word = (self._own or self._team.asked) if self.is_wanted() else ""
        said = next(filter(None, self._team.gather(word, self.is_wanted)), "")
        if said:
            self._stop.signal = said
        return bool(said)
